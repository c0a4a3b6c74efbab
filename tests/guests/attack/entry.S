/* SPDX-License-Identifier: Apache-2.0
 *
 * How the machine enters the attack guest: by the PVH note, in 32-bit protected mode without paging. From here to
 * 64-bit mode with the first 4 GiB mapped one to one, so that every register and all of RAM is a plain address.
 */
        .section .note.Xen, "a", @note
        .long   4, 4, 18                /* name and description sizes, XEN_ELFNOTE_PHYS32_ENTRY */
        .asciz  "Xen"
        .long   entry32

        .text
        .code32
        .globl  entry32
entry32:
        cli
        movl    %ebx, boot_start_info
        movl    $(directory_pointers + 3), top_table
        movl    $(directories + 0x0003), directory_pointers
        movl    $(directories + 0x1003), directory_pointers + 8
        movl    $(directories + 0x2003), directory_pointers + 16
        movl    $(directories + 0x3003), directory_pointers + 24
        movl    $directories, %edi
        movl    $0x83, %eax             /* present, writable, 2 MiB */
        movl    $2048, %ecx
1:      movl    %eax, (%edi)
        addl    $0x200000, %eax
        addl    $8, %edi
        loop    1b

        movl    %cr4, %eax
        orl     $0x20, %eax             /* PAE */
        movl    %eax, %cr4
        movl    $top_table, %eax
        movl    %eax, %cr3
        movl    $0xc0000080, %ecx       /* EFER.LME */
        rdmsr
        orl     $0x100, %eax
        wrmsr
        movl    %cr0, %eax
        orl     $0x80000001, %eax
        movl    %eax, %cr0
        lgdt    table_pointer
        ljmp    $8, $entry64

        .code64
entry64:
        movl    $16, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movq    $stack_top, %rsp
        movl    boot_start_info, %edi
        call    attack_main
2:      hlt
        jmp     2b

/* The second CPU begins here, in real mode, on the page that this is copied to. It uses the first one's tables. */
        .code16
        .globl  second_begin, second_end
second_begin:
        cli
        lgdtl   %cs:(second_table_pointer - second_begin)
        movl    %cr0, %eax
        orl     $1, %eax
        movl    %eax, %cr0
        ljmpl   $24, $second32
second_table_pointer:
        .word   31
        .long   segments
second_end:

        .code32
second32:
        movl    $16, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    %cr4, %eax
        orl     $0x20, %eax
        movl    %eax, %cr4
        movl    $top_table, %eax
        movl    %eax, %cr3
        movl    $0xc0000080, %ecx
        rdmsr
        orl     $0x100, %eax
        wrmsr
        movl    %cr0, %eax
        orl     $0x80000000, %eax
        movl    %eax, %cr0
        ljmp    $8, $second64

        .code64
second64:
        movq    $second_stack_top, %rsp
        call    second_main
3:      hlt
        jmp     3b

/* A general protection fault: counted; the instruction of two bytes that made it (rdmsr, wrmsr) is left out. */
        .globl  on_general_protection
on_general_protection:
        incq    general_protections
        addq    $2, 8(%rsp)
        addq    $8, %rsp                /* the error code */
        iretq

/* Any other exception is told and ends the guest. The CPU pushes an error code for some vectors only. */
        .macro  fault vector
        .balign 16
        .if     !((0x60227d00 >> \vector) & 1)
        pushq   $0
        .endif
        pushq   $\vector
        jmp     fault_common
        .endm
        .globl  fault_entries
        .balign 16
fault_entries:
        .set    number, 0
        .altmacro
        .rept   32
        fault   %number
        .set    number, number + 1
        .endr
        .noaltmacro
fault_common:
        popq    %rdi                    /* the vector, the error code, the instruction, the address */
        popq    %rsi
        movq    (%rsp), %rdx
        movq    %cr2, %rcx
        andq    $-16, %rsp
        call    tell_fault

        .section .rodata
        .balign 8
segments:
        .quad   0
        .quad   0x00af9b000000ffff      /* code, 64 bits */
        .quad   0x00cf93000000ffff      /* data */
        .quad   0x00cf9b000000ffff      /* code, 32 bits */
table_pointer:
        .word   31
        .long   segments

        .bss
        .balign 4096
top_table:
        .skip   4096
directory_pointers:
        .skip   4096
directories:
        .skip   4 * 4096
        .skip   64 * 1024
stack_top:
        .skip   16 * 1024
second_stack_top:
boot_start_info:
        .skip   4
        .balign 8
        .globl  general_protections
general_protections:
        .skip   8

        .section .note.GNU-stack, "", @progbits
