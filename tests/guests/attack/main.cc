// SPDX-License-Identifier: Apache-2.0
//
// The attack guest: a kernel of its own that does to the machine what no honest guest does. It is loaded as
// the guest's kernel with attack=NAME on the command line, does that one thing, says "attack NAME: done" on
// the early console, and asks for a reset. tests/guests/attack_test runs every attack and looks at the host.
#include "attacks.h"
#include "hardware.h"

namespace {

struct Attack {
  const char* name;
  void (*run)();
};
using namespace attack;

constexpr Attack kAttacks[] = {
    {"registers", registers}, {"wild_memory", wild_memory},   {"wild_ports", wild_ports},
    {"doorbells", doorbells}, {"reset_storm", reset_storm},   {"consoles", consoles},
    {"msrs", msrs},           {"ring_loops", ring_loops},     {"outside_ram", outside_ram},
    {"own_rings", own_rings}, {"random_rings", random_rings}, {"racing_cpus", racing_cpus},
    {"disks", disks},         {"sockets", sockets},           {"balloon", balloon},
    {"frames", frames},       {"false_agent", false_agent},   {"triple_fault", triple_fault},
    {"hang", hang},
};

constexpr std::uint64_t kCommandLineOffset = 24;  // in the start info of PVH

bool same(const char* text, const char* name) {
  for (; *name != '\0'; ++name, ++text) {
    if (*text != *name) return false;
  }
  return *text == '\0' || *text == ' ';
}

// What stands behind "attack=".
const char* wanted(const char* line) {
  for (; *line != '\0'; ++line) {
    const char* word = "attack=";
    const char* at = line;
    while (*word != '\0' && *at == *word) ++at, ++word;
    if (*word == '\0') return at;
  }
  return "";
}

}  // namespace

extern "C" void attack_main(std::uint32_t start_info) {
  tell_faults();
  const char* const name =
      wanted(reinterpret_cast<const char*>(load<std::uint64_t>(start_info + kCommandLineOffset)));
  for (const Attack& entry : kAttacks) {
    if (!same(name, entry.name)) continue;
    say("attack ");
    say(entry.name);
    say(": begins\n");
    entry.run();
    say("\nattack ");
    say(entry.name);
    say(": done\n");
    reset();
  }
  say("attack: no such attack\n");
  reset();
}
