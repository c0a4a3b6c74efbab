#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the guest kernel from Debian's linux-source-6.12 and the fragments beside this script.
# The result is kept under a key made of everything that can change it, so it is built once.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
package=linux-source-6.12
# Raise this when a change of this script changes the kernel it builds.
recipe=1

usage() {
    cat <<USAGE
usage: kernel-config/build.sh [options]
Builds the guest kernel (once per key) and prints the path of its vmlinux.

  --output FILE   also put the kernel at FILE (hard link where possible, else a copy)
  --debug         the same kernel, unstripped, with debug information
  --print-key     print the cache key and exit; 'cached' or 'missing' follows on stderr
  --force         build even if the result is cached
  --work DIR      build in DIR and keep it: incremental builds while changing fragments
  --jobs N        parallel compile jobs (default: all processors)
  --help          this text

The cache is \${XDG_CACHE_HOME:-~/.cache}/msb/kernel/KEY/{vmlinux,System.map,config}.
USAGE
}

say() { printf 'kernel: %s\n' "$*" >&2; }
die() {
    printf 'kernel: error: %s\n' "$*" >&2
    exit 1
}

output='' debug=0 print_key=0 force=0 work='' jobs=$(nproc)
while (($#)); do
    case $1 in
    --output | --work | --jobs) (($# >= 2)) || die "$1 needs a value" ;;&
    --output) output=$2 && shift ;;
    --work) work=$2 && shift ;;
    --jobs) jobs=$2 && shift ;;
    --debug) debug=1 ;;
    --print-key) print_key=1 ;;
    --force) force=1 ;;
    --help | -h)
        usage
        exit 0
        ;;
    *)
        usage >&2
        die "unknown option $1"
        ;;
    esac
    shift
done

cache=${XDG_CACHE_HOME:-${HOME:?neither XDG_CACHE_HOME nor HOME is set}/.cache}/msb/kernel
mkdir -p "$cache"

as_root() {
    if [[ $(id -u) == 0 ]]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        return 1
    fi
}

# Installs the Debian packages that the named commands or headers come from, if they are missing.
need_tools() {
    local missing=() tool
    for tool in make gcc flex bison bc python3; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    command -v xz >/dev/null || missing+=(xz-utils)
    command -v ld >/dev/null || missing+=(binutils)
    # objtool reads and writes the object files with libelf.
    [[ -e /usr/include/libelf.h ]] || missing+=(libelf-dev)
    ((${#missing[@]} == 0)) && return
    say "installing ${missing[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" >&2 ||
        die "cannot install build tools; run as root: apt-get install ${missing[*]}"
}

# The pinned source version; if Debian no longer offers it (a security update replaced it), the newest one.
source_version() {
    local pinned offered
    pinned=$(<"$here/source-version")
    if [[ -e $cache/source/$package-$pinned.deb ]]; then
        echo "$pinned"
        return
    fi
    offered=$(apt-cache madison "$package" 2>/dev/null | awk '{print $3}' || true)
    if [[ -z $offered ]]; then
        say "asking apt for $package"
        as_root apt-get update -qq >&2 || true
        offered=$(apt-cache madison "$package" 2>/dev/null | awk '{print $3}' || true)
    fi
    if [[ -z $offered ]]; then
        die "apt does not know $package; on Debian 12, enable bookworm-security and run apt-get update"
    elif grep -qxF -- "$pinned" <<<"$offered"; then
        echo "$pinned"
    else
        offered=$(sort -rV <<<"$offered" | head -1)
        say "Debian no longer offers $pinned; using $offered"
        echo "$offered"
    fi
}

fragments=("$here"/fragments/*.config)
((debug)) && fragments+=("$here/debug.config")

# Reads fragments, prints CONFIG_NAME=value lines. Every line needs its reason; a later file overrides an earlier one.
settings() {
    awk '
        /^[ \t]*(#|$)/ { next }
        !/^CONFIG_[A-Za-z0-9_]+=[^ ]+  # ./ {
            printf "%s:%d: want CONFIG_NAME=value  # reason\n", FILENAME, FNR > "/dev/stderr"; bad = 1; next
        }
        {
            split($1, kv, "="); name = kv[1]
            if (seen[FILENAME, name]++) {
                printf "%s:%d: %s is set twice\n", FILENAME, FNR, name > "/dev/stderr"; bad = 1
            }
            if (!(name in value)) order[++n] = name
            value[name] = substr($1, length(name) + 2)
        }
        END { for (i = 1; i <= n; i++) print order[i] "=" value[order[i]]; exit bad }
    ' "$@"
}

# Compares wanted settings (stdin) with a finished .config; prints each that did not survive Kconfig.
mismatches() {
    awk -v config="$1" '
        BEGIN {
            while ((getline line < config) > 0)
                if (match(line, /^CONFIG_[A-Za-z0-9_]+=/)) have[substr(line, 1, RLENGTH - 1)] = substr(line, RLENGTH + 1)
        }
        {
            eq = index($0, "="); name = substr($0, 1, eq - 1); want = substr($0, eq + 1)
            got = (name in have) ? have[name] : "n"
            if (got != want) printf "  %s: want %s, got %s\n", name, want, got
        }
    '
}

version=$(source_version)
key=$({
    echo "recipe $recipe debug $debug source $version"
    gcc --version | head -1
    ld --version | head -1
    settings "${fragments[@]}"
    cat "$here"/edits/*
} | sha256sum | cut -c1-16)
result=$cache/$key

# What the project promises about a build, cached or new.
check_expected() {
    local bad
    bad=$(awk '/^CONFIG_/ { print $1 }' "$here/expected.txt" | mismatches "$1")
    [[ -z $bad ]] || die "expected.txt is not met:
$bad"
}

deliver() {
    local file=$result/vmlinux
    check_expected "$result/config"
    if [[ -n $output ]]; then
        mkdir -p "$(dirname "$output")"
        ln -f "$file" "$output" 2>/dev/null || cp "$file" "$output.tmp.$$"
        [[ -e $output.tmp.$$ ]] && mv "$output.tmp.$$" "$output"
        file=$output
    fi
    touch -c "$result"
    echo "$file"
}

if ((print_key)); then
    echo "$key"
    if [[ -e $result/vmlinux ]]; then say cached; else say missing; fi
    exit 0
fi
if [[ -e $result/vmlinux ]] && ((!force)); then
    deliver
    exit 0
fi

need_tools
exec 9>"$cache/lock"
if ! flock -n 9; then
    say "waiting for another build"
    flock 9
fi
if [[ -e $result/vmlinux ]] && ((!force)); then
    deliver
    exit 0
fi

deb=$cache/source/$package-$version.deb
if [[ ! -e $deb ]]; then
    say "downloading $package $version (about 150 MB)"
    mkdir -p "$cache/source"
    fetched=$(mktemp -d "$cache/source/fetch.XXXXXX")
    (cd "$fetched" && apt-get download -qq "$package=$version" >&2) ||
        die "cannot download $package $version; check the network, then apt-get update"
    mv "$fetched"/*.deb "$deb"
    rmdir "$fetched"
fi

# A fixed place, so that ccache knows the files again after the tree was removed.
keep=1
if [[ -z $work ]]; then
    work=$cache/build
    keep=0
    rm -rf "$work"
fi
mkdir -p "$work"
work=$(cd "$work" && pwd)
source=$work/source
objects=$work/objects
if [[ ! -e $work/source.version || $(<"$work/source.version") != "$version" ]]; then
    say "unpacking $package $version"
    rm -rf "$source" "$objects"
    mkdir -p "$source"
    # Drivers of hardware that is not there are two thirds of the tree; only their Kconfig files are read.
    dpkg-deb --fsys-tarfile "$deb" | tar -xOf - "./usr/src/$package.tar.xz" |
        tar -xJ -C "$source" --strip-components=1 \
            --exclude='*/drivers/gpu/*.[ch]' --exclude='*/drivers/net/ethernet/*.[ch]' \
            --exclude='*/drivers/net/wireless/*.[ch]' --exclude='*/drivers/media/*.[ch]' \
            --exclude='*/sound/*.[ch]' --exclude='*/tools/testing/*'
    echo "$version" >"$work/source.version"
fi

"$here/edits/apply.sh" "$source"

# Nothing of the machine, the user or the moment may show in the kernel.
compiler=gcc
if command -v ccache >/dev/null; then
    compiler='ccache gcc'
    # The same objects wherever the tree is; and a miss does not preprocess its file twice.
    export CCACHE_BASEDIR=$work CCACHE_NOHASHDIR=1 CCACHE_DEPEND=1
fi
# Only debug information names files; it names them relative to the tree.
debug_flags=()
((debug)) && debug_flags=(KCFLAGS="-ffile-prefix-map=$objects=. -ffile-prefix-map=$source=.")
build() {
    env -u MAKEFLAGS LC_ALL=C \
        KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 1970' KBUILD_BUILD_VERSION=1 \
        KBUILD_BUILD_USER=msb KBUILD_BUILD_HOST=msb \
        make -C "$source" O="$objects" ARCH=x86_64 CC="$compiler" HOSTCC="$compiler" -j"$jobs" \
        "${debug_flags[@]}" "$@"
}

mkdir -p "$objects"
say "configuring"
settings "${fragments[@]}" >"$work/settings"
{
    cat "$source/kernel/configs/tiny-base.config"
    for tiny in "$source/kernel/configs/tiny.config" "$source/arch/x86/configs/tiny.config"; do
        [[ ! -e $tiny ]] || cat "$tiny"
    done
    cat "$work/settings"
} | awk '/^CONFIG_/ { eq = index($0, "="); value[substr($0, 1, eq - 1)] = substr($0, eq + 1) }
         END { for (name in value) if (value[name] == "n") print "# " name " is not set"; else print name "=" value[name] }' |
    LC_ALL=C sort >"$work/all.config"
build KCONFIG_ALLCONFIG="$work/all.config" allnoconfig >"$work/configure.log" 2>&1 ||
    die "configuring failed: $(tail -5 "$work/configure.log")"

bad=$(mismatches "$objects/.config" <"$work/settings")
[[ -z $bad ]] || die "fragments that did not reach the final configuration (a missing dependency or an unknown name):
$bad"
check_expected "$objects/.config"

say "compiling with $jobs jobs (several minutes the first time)"
started=$SECONDS
build vmlinux 2>"$work/errors.log" | tee "$work/build.log" |
    awk '/^  (CC|AS) / { n++; if (n % 200 == 0) { printf "kernel: %d files compiled\n", n > "/dev/stderr" } }' ||
    die "compiling failed:
$(tail -20 "$work/errors.log")"

staged=$(mktemp -d "$cache/stage.XXXXXX")
trap 'rm -rf "$staged"' EXIT
if ((debug)); then
    cp "$objects/vmlinux" "$staged/vmlinux"
else
    strip --strip-all --remove-section=.comment -o "$staged/vmlinux" "$objects/vmlinux"
fi
"$here/edits/sort_jumps.py" "$staged/vmlinux" "$objects/System.map" || die "the jump labels could not be sorted"
# The PVH entry point is a note of owner Xen, type 18; without it the machine has nowhere to jump.
readelf -n "$staged/vmlinux" 2>/dev/null | grep -qi 'Xen.*0x00000012' || die "vmlinux has no PVH entry note"
cp "$objects/System.map" "$staged/System.map"
cp "$objects/.config" "$staged/config"
chmod 755 "$staged"
rm -rf "$result"
mv "$staged" "$result"
trap - EXIT
((keep)) || rm -rf "$work"
say "built in $((SECONDS - started)) s: $(stat -c %s "$result/vmlinux") bytes, key $key"
deliver
