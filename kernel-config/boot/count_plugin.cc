// SPDX-License-Identifier: Apache-2.0
//
// A QEMU TCG plugin that counts the guest's instructions exactly: from the kernel's first instruction to the
// first one in user space. boot-report loads it and turns its output into a report.
//
// Output file: one line `total N`, then one line per executed translation block, `ADDRESS INSNS RUNS FIRST`,
// where FIRST is the number of instructions executed before the block first ran. Addresses are guest virtual.
//
// Debian ships QEMU with plugins enabled but without the header, so the few names used are declared here
// (QEMU documentation, "TCG Plugins", interface version 1).

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>

extern "C" {
struct qemu_info_t;
struct qemu_plugin_tb;
using qemu_plugin_id_t = std::uint64_t;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS = 0 };
using tb_trans_cb = void (*)(qemu_plugin_id_t, qemu_plugin_tb*);
using tb_exec_cb = void (*)(unsigned, void*);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, tb_trans_cb cb);
void qemu_plugin_register_vcpu_tb_exec_cb(qemu_plugin_tb* tb, tb_exec_cb cb, qemu_plugin_cb_flags flags,
                                          void* data);
std::size_t qemu_plugin_tb_n_insns(const qemu_plugin_tb* tb);
std::uint64_t qemu_plugin_tb_vaddr(const qemu_plugin_tb* tb);

__attribute__((visibility("default"))) extern int qemu_plugin_version;
int qemu_plugin_version = 1;
}

namespace {

// Where the kernel's image lies in physical memory: its first block there starts the count (the PVH entry
// runs at physical addresses). Firmware and the start code of further processors run below kLowestUser, PID 1
// above it.
constexpr std::uint64_t kImagePhysicalStart = 0x1000000;
constexpr std::uint64_t kImagePhysicalEnd = 0x8000000;
constexpr std::uint64_t kLowestUser = 0x200000;
constexpr std::uint64_t kKernelHalf = 0xffff800000000000;

struct Block {
  std::uint64_t address;
  std::uint64_t insns;
  std::uint64_t runs;
  std::uint64_t first;
};

struct State {
  std::deque<Block> blocks;  // stable addresses: QEMU holds pointers to them
  std::map<std::pair<std::uint64_t, std::uint64_t>, Block*> by_key;  // address, length
  std::uint64_t total = 0;
  bool started = false;
  bool done = false;
  const char* out = nullptr;
};

State& state() {
  static State s;
  return s;
}

void write_report() {
  State& s = state();
  std::FILE* f = std::fopen(s.out, "w");
  if (f == nullptr) {
    std::perror(s.out);
    std::exit(1);
  }
  std::fprintf(f, "total %llu\n", static_cast<unsigned long long>(s.total));
  for (const Block& b : s.blocks) {
    if (b.runs == 0) continue;
    std::fprintf(f, "%llx %llu %llu %llu\n", static_cast<unsigned long long>(b.address),
                 static_cast<unsigned long long>(b.insns), static_cast<unsigned long long>(b.runs),
                 static_cast<unsigned long long>(b.first));
  }
  std::fclose(f);
}

void on_exec(unsigned /*vcpu*/, void* data) {
  State& s = state();
  if (s.done) return;
  auto* block = static_cast<Block*>(data);
  const bool in_image = block->address >= kImagePhysicalStart && block->address < kImagePhysicalEnd;
  if (!s.started) {
    if (!in_image) return;
    s.started = true;
  }
  if (block->address < kKernelHalf && block->address >= kLowestUser && !in_image) {
    s.done = true;  // the first instruction of PID 1
    write_report();
    return;
  }
  if (block->runs++ == 0) block->first = s.total;
  s.total += block->insns;
}

void on_translate(qemu_plugin_id_t /*id*/, qemu_plugin_tb* tb) {
  State& s = state();
  if (s.done) return;
  const std::uint64_t address = qemu_plugin_tb_vaddr(tb);
  const std::uint64_t insns = qemu_plugin_tb_n_insns(tb);
  Block*& block = s.by_key[{address, insns}];
  if (block == nullptr) block = &s.blocks.emplace_back(Block{address, insns, 0, 0});
  qemu_plugin_register_vcpu_tb_exec_cb(tb, on_exec, QEMU_PLUGIN_CB_NO_REGS, block);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id,
                                                                          const qemu_info_t* /*info*/,
                                                                          int argc, char** argv) {
  for (int i = 0; i < argc; i++)
    if (std::strncmp(argv[i], "out=", 4) == 0) state().out = argv[i] + 4;
  if (state().out == nullptr) return -1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
  return 0;
}
