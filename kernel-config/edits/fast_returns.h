/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/*
 * Under either licence, so that it may be compiled into the kernel. Included by arch/x86/kernel/alternative.c of the
 * build's copy of the source (see apply.sh).
 *
 * At boot the kernel rewrites each of its 34,000 function returns for the CPU it finds. It runs its instruction decoder
 * on every site, although the compiler emits only one form, a five-byte jump to __x86_return_thunk; and after each it
 * serialises the CPU. Here that form is recognised by its bytes and the CPU serialised once, with interrupts off from
 * the first site to the last, so that no handler runs into one that is half written.
 */
#pragma once

/* Returns whether the site was handled. What is written is decided by the kernel's own patch_return(). */
static __always_inline bool msb_patch_plain_return(u8 *addr)
{
    struct insn insn;
    u8 bytes[16];
    s32 distance;

    if (addr[0] != JMP32_INSN_OPCODE)
        return false;
    memcpy(&distance, addr + 1, sizeof(distance));
    if (addr + JMP32_INSN_SIZE + distance != (u8 *)&__x86_return_thunk)
        return false;
    /* The trampoline of a static call that does nothing looks the same, but is marked and patched differently. */
    if (addr[5] == 0x0f && addr[6] == 0xb9 && addr[7] == 0xcc)
        return false;

    insn.length = JMP32_INSN_SIZE;
    if (patch_return(addr, &insn, bytes) == JMP32_INSN_SIZE)
        memcpy(addr, bytes, JMP32_INSN_SIZE);
    return true;
}

/*
 * Patches the plain sites of [start, end), which lie in memory that is thrown away after the start, and gathers the
 * others at its beginning. Returns their end: the kernel's own loop does the rest.
 */
static s32 *__init_or_module msb_patch_plain_returns(s32 *start, s32 *end)
{
    unsigned long flags;
    s32 *left = start;
    s32 *site;

    local_irq_save(flags);
    for (site = start; site < end; site++) {
        u8 *addr = (u8 *)site + *site;

        if (msb_patch_plain_return(addr))
            continue;
        *left = (s32)(addr - (u8 *)left);
        left++;
    }
    sync_core();
    local_irq_restore(flags);
    return left;
}
