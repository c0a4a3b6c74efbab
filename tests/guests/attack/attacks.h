// SPDX-License-Identifier: Apache-2.0
// The attacks. Each returns when it is done with what it does; what it broke is for the host to see.
#pragma once

namespace attack {

// attacks_machine.cc
void registers();    // every register of every device, in every state, in every width
void wild_memory();  // addresses where nothing is, interrupt controllers included
void wild_ports();   // all ports, and strings of accesses
void doorbells();    // notifications without end, of queues that are there and that are not
void reset_storm();  // resets with requests under way
void consoles();     // text without end, on both consoles
void msrs();         // every model-specific register there may be, read and written
// attacks_rings.cc
void ring_loops();    // chains that do not end, tables inside tables, indexes that jump
void outside_ram();   // descriptors and rings where no memory is, sizes that overflow
void own_rings();     // devices that are made to write over their own rings
void random_rings();  // anything anywhere
void racing_cpus();   // a second CPU changes rings and requests while devices work on them
// attacks_devices.cc
void disks();        // requests at and over the edges of a disk, and more than anyone reads
void sockets();      // a flood of packets of connections that are there and that are not
void balloon();      // takes all memory away, also under the rings
void frames();       // frames of all sizes and headers that lie
void false_agent();  // says it is ready, then lies to the supervisor

}  // namespace attack
