#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# apply.sh SOURCE: puts our few additions into an unpacked kernel source tree. Each edit names the one place it expects
# and fails when that place is missing or not unique, so that a new kernel version cannot be changed by accident.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source=${1:?usage: apply.sh SOURCE}

file=$source/arch/x86/kernel/alternative.c
copy=$source/arch/x86/kernel/msb_fast_returns.h
cmp -s "$here/fast_returns.h" "$copy" || cp "$here/fast_returns.h" "$copy"
if ! grep -q msb_fast_returns "$file"; then
    # Before the first (the real) apply_returns, and first thing for each of its sites.
    awk '
        /^void __init_or_module noinline apply_returns\(s32 \*start, s32 \*end\)$/ && !inside && !done {
            print "#include \"msb_fast_returns.h\""
            print ""
            inside = 1
        }
        inside && /^\t\tret = insn_decode_kernel\(&insn, addr\);$/ {
            print "\t\tif (msb_patch_plain_return(addr))"
            print "\t\t\tcontinue;"
            inserted++
        }
        inside && /^}$/ { inside = 0; done = 1 }
        { print }
        END { exit !(done && inserted == 1) }
    ' "$file" >"$file.new" || {
        echo "apply.sh: apply_returns() of this kernel is not the one fast_returns.h was written for" >&2
        exit 1
    }
    mv "$file.new" "$file"
fi
