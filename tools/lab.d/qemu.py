# SPDX-License-Identifier: Apache-2.0
"""The lab's machine: QEMU's command line, and a QEMU that cannot outlive the process that started it."""

import ctypes
import os
import signal
import subprocess

QEMU = "/usr/bin/qemu-system-x86_64"
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent):
    """Asks the kernel to kill the calling process when its parent ends, however that ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _kernel_arguments(options, tree):
    words = [
        "console=ttyS0", "quiet", "loglevel=4",
        # A panic or a failed init ends QEMU (-no-reboot) and is reported, instead of hanging.
        "panic=-1", "reboot=t",
        "nokaslr", "init_on_alloc=0", "audit=0", "mitigations=off", "no5lvl", "tsc=reliable", "no_timer_check",
        # Self-tests and certificates that nothing here needs, a tenth of the boot.
        "initcall_blacklist=load_system_certificate_list,jent_mod_init",
        "random.trust_cpu=on", "rcupdate.rcu_expedited=1", "cryptomgr.notests",
        "lsm=landlock,yama,bpf", "systemd.unified_cgroup_hierarchy=1",
        f"lab.modules={os.fsencode(tree).hex()}",
    ]
    return " ".join(words)


def command(options, files, port_fd, console_fd):
    """Returns QEMU's argument list. `port_fd` and `console_fd` are connected stream sockets that QEMU inherits."""
    kernel, initramfs, tree = files

    def escape(text):
        return str(text).replace(",", ",,")

    # Without ERMS and FSRM: real processors move whole lines for "rep movsb", the emulation goes byte by byte. With them a
    # fork and exec costs sixty times as many instructions.
    argv = [
        QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-no-reboot", "-nic", "none",
        "-M", "q35,usb=off,smbus=off,sata=off,vmport=off,hpet=on", "-cpu", "max,+svm,+npt,-erms,-fsrm",
        "-smp", str(options.cpus), "-m", f"{options.memory >> 20}M",
        "-kernel", str(kernel), "-initrd", str(initramfs), "-append", _kernel_arguments(options, tree),
        "-chardev", f"socket,id=console,fd={console_fd}", "-serial", "chardev:console",
        "-device", "virtio-serial-pci,max_ports=2",
        "-chardev", f"socket,id=port,fd={port_fd}", "-device", "virtserialport,chardev=port,name=msb.lab",
        "-virtfs", "local,id=root,path=/,mount_tag=hostroot,security_model=none,readonly=on,multidevs=remap",
    ]
    if options.icount:
        argv += ["-accel", "tcg,tb-size=512", "-icount", "shift=0,sleep=off"]
    else:
        argv += ["-accel", "tcg,thread=multi,tb-size=512"]
    if options.out:
        argv += ["-virtfs", f"local,id=out,path={escape(options.out)},mount_tag=out,security_model=none,multidevs=remap"]
    return argv


def start(argv, port_fd, console_fd, log):
    """Starts QEMU, its messages to `log`; it is killed when the calling process ends."""
    parent = os.getpid()
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(port_fd, console_fd),
                            preexec_fn=lambda: die_with_parent(parent))
