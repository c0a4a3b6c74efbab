/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/*
 * Under either licence, so that it may be compiled into the kernel. Included by arch/x86/kernel/alternative.c of the
 * build's copy of the source (see apply.sh).
 *
 * At boot the kernel rewrites each of its 34,000 function returns for the CPU it finds. It runs its instruction decoder
 * on every site, although the compiler emits only one form: a five-byte jump to __x86_return_thunk. Recognising that
 * form by its bytes costs a tenth; every other site still takes the kernel's own way, as do all sites of modules.
 */
#pragma once

/* Returns whether the site was handled. What is written is decided by the kernel's own patch_return(). */
static __always_inline bool __init_or_module msb_patch_plain_return(u8 *addr)
{
    static const u8 trampoline_mark[] = { 0x0f, 0xb9, 0xcc };
    struct insn insn;
    u8 bytes[16];
    s32 distance;

    if (addr[0] != JMP32_INSN_OPCODE)
        return false;
    memcpy(&distance, addr + 1, sizeof(distance));
    if (addr + JMP32_INSN_SIZE + distance != (u8 *)&__x86_return_thunk)
        return false;
    /* The trampoline of a static call that does nothing looks the same but is patched differently. */
    if (memcmp(addr + JMP32_INSN_SIZE, trampoline_mark, sizeof(trampoline_mark)) == 0)
        return false;

    insn.length = JMP32_INSN_SIZE;
    if (patch_return(addr, &insn, bytes) == JMP32_INSN_SIZE)
        text_poke_early(addr, bytes, JMP32_INSN_SIZE);
    return true;
}
