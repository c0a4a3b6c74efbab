/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/*
 * Under either licence, so that it may be compiled into the kernel. Included by kernel/jump_label.c of the build's copy
 * of the source (see apply.sh).
 *
 * The kernel sorts its table of jump labels at every boot. sort_jumps.py has done that when it was built.
 */
#pragma once

static bool msb_jumps_are_sorted(const struct jump_entry *start, const struct jump_entry *stop)
{
    for (; start + 1 < stop; start++) {
        if (jump_label_cmp(start, start + 1) > 0)
            return false;
    }
    return true;
}
