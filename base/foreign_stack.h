// SPDX-License-Identifier: Apache-2.0
// For functions that run in a child which shares our memory and has a stack of its own (clone with CLONE_VM).
#pragma once

// AddressSanitizer knows the stacks of our threads only: in such a function it would take the stack for a
// damaged one.
#define MSB_ON_FOREIGN_STACK [[gnu::no_sanitize_address]]
