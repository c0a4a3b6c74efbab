#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# apply.sh SOURCE: puts our few additions into an unpacked kernel source tree. Each edit names the one line it expects
# and fails when that line is missing or not unique, so that a new kernel version cannot be changed by accident.
# docs/decisions/0042-edits-to-the-kernel.md has each one's reason and what it saves.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source=${1:?usage: apply.sh SOURCE}

# edit FILE before|after|instead LINE TEXT
edit() {
    local file=$source/$1 where=$2 line=$3 text=$4
    LINE=$line TEXT=$text awk -v where="$where" '
        $0 == ENVIRON["LINE"] {
            found++
            if (where == "after") print
            print ENVIRON["TEXT"]
            if (where == "before") print
            next
        }
        { print }
        END { exit found != 1 }
    ' "$file" >"$file.new" || {
        echo "apply.sh: $1 of this kernel does not have this line exactly once: $line" >&2
        exit 1
    }
    mv "$file.new" "$file"
}

# Headers are compared, not stamped: an incremental build compiles again what includes a changed one.
header() {
    cmp -s "$here/$1" "$source/$2" || cp "$here/$1" "$source/$2"
}

header fast_returns.h arch/x86/kernel/msb_fast_returns.h
header fresh_blocks.h mm/msb_fresh_blocks.h
header sorted_jumps.h kernel/msb_sorted_jumps.h
[[ ! -e $source/msb_edits ]] || exit 0

file=arch/x86/kernel/alternative.c
edit $file before 'void __init_or_module noinline apply_returns(s32 *start, s32 *end)' '#include "msb_fast_returns.h"
'
edit $file after '		static_call_force_reinit();' '
	end = msb_patch_plain_returns(start, end);'

file=mm/mm_init.c
edit $file instead '		__init_single_page(page, pfn, zid, nid);' \
    '		__init_single_page(page, pfn, zid, nid), set_page_count(page, 0);'
edit $file instead '		__free_pages_core(page, MAX_PAGE_ORDER, MEMINIT_EARLY);' '		msb_free_fresh_block(page);'
edit mm/internal.h before 'extern void __free_pages_core(struct page *page, unsigned int order,' \
    'void msb_free_fresh_block(struct page *page);'
edit mm/page_alloc.c before 'void __meminit __free_pages_core(struct page *page, unsigned int order,' '#include "msb_fresh_blocks.h"
'

file=kernel/jump_label.c
edit $file before 'static void jump_label_swap(void *a, void *b, int size)' '#include "msb_sorted_jumps.h"
'
edit $file after '		swapfn = jump_label_swap;' '
	if (msb_jumps_are_sorted(start, stop))
		return;'

# Without CONFIG_XEN there is no other hypervisor whose entry this could be: no search through 256 CPUID leaves.
edit arch/x86/platform/pvh/enlighten.c instead '	u32 msr = xen_cpuid_base();' \
    '	u32 msr = IS_ENABLED(CONFIG_XEN) ? xen_cpuid_base() : 0;'

# /sys/module has no parameters of RCU: 53 of 137, and the kernel makes a group of n files in n * n steps.
edit kernel/params.c instead '		dot = strchr(kp->name, '\'.\'');' \
    '		if (!strncmp(kp->name, "rcu", 3) || !strncmp(kp->name, "srcutree.", 9))
			continue;

		dot = strchr(kp->name, '\'.\'');'

# On x86-64 the DMA32 zone cannot be left out by configuration (fragments/20-machine.config says why it is).
edit arch/x86/Kconfig instead '	select ZONE_DMA32' ''

touch "$source/msb_edits"
