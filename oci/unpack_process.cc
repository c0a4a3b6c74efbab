// SPDX-License-Identifier: Apache-2.0
#include "oci/unpack_process.h"

#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/confine/confine.h"
#include "base/file.h"
#include "base/image_reference.h"
#include "base/json.h"
#include "base/log.h"
#include "base/subprocess.h"
#include "oci/digest.h"

namespace msb::oci {
namespace {

constexpr int kBlobFd = 3, kSplitFd = 4, kScratchFd = 5, kAnswerFd = 6;
constexpr std::size_t kMaxAnswer = 64U << 10;
constexpr std::size_t kCopyBuffer = 256U << 10;

void confine_child() {
  confine::Report report;
  confine::set_no_new_privileges(report);
  confine::restrict_paths({}, confine::TcpAccess::kNone, report);
  confine::drop_capabilities(report);
  confine::set_limits({{RLIMIT_NOFILE, 16}}, report);
  confine::forbid_dumps(report);
  const auto program = confine::SeccompProgram::compile(unpacker_calls());
  report.add(confine::Layer::kSeccomp, program ? program->install() : Status(program.error()));
  if (!report.complete())
    MSB_WARN("layers are unpacked with less confinement: %s", report.missing_text().c_str());
}

// What stands on both sides before anything from outside is read.
void prepare_child() {
  prepare_digests();
  // One heap for all threads: glibc reads a file in /proc when it shrinks another.
  mallopt(M_ARENA_MAX, 1);
  confine_child();
}

// The child's answer: what `fields` writes of a summary, or the error.
template <typename Summary, typename Fields>
Status answer(const Result<Summary>& summary, Fields fields) {
  JsonWriter json;
  json.begin_object();
  if (summary) {
    fields(json, *summary);
  } else {
    json.key("error").begin_object().field("code", errc_name(summary.error().code));
    json.field("text", summary.error().text).end_object();
  }
  json.end_object();
  return write_all(kAnswerFd, std::move(json).take());
}

// The Errc of a name that errc_name() gave.
Errc code_named(std::string_view name) {
  for (int i = 0; i <= static_cast<int>(Errc::kInternal); ++i) {
    if (errc_name(static_cast<Errc>(i)) == name) return static_cast<Errc>(i);
  }
  return Errc::kInternal;
}

// The answer's document; the child's error is returned as one.
Result<JsonDocument> parse_answer(const std::string& text) {
  MSB_ASSIGN(JsonDocument document, JsonDocument::parse(text, {.max_bytes = kMaxAnswer}));
  const auto error = document.root().find("error");
  if (!error) return document;
  MSB_ASSIGN(const std::string code, error->get_string("code"));
  MSB_ASSIGN(std::string what, error->get_string("text"));
  return Error{code_named(code), 0, std::move(what)};
}

Result<LayerSummary> read_summary(const JsonView& root) {
  LayerSummary summary;
  MSB_ASSIGN(summary.diff_id_hex, root.get_string("diff_id"));
  if (!is_sha256_digest("sha256:" + summary.diff_id_hex)) return make_error(Errc::kProtocol, "not a digest");
  MSB_ASSIGN(summary.tar_bytes, root.get_uint("tar_bytes"));
  MSB_ASSIGN(summary.blob_bytes, root.get_uint("blob_bytes"));
  MSB_ASSIGN(summary.entries, root.get_uint("entries"));
  MSB_ASSIGN(summary.dropped_xattrs, root.get_uint("dropped_xattrs"));
  return summary;
}

// The stream into the pipe. A child that closes it early has its reason, which its answer tells.
Status feed(ByteStream& input, int fd) {
  Bytes buffer(kCopyBuffer);
  for (;;) {
    MSB_ASSIGN(const std::size_t n, input.read(buffer));
    if (n == 0) return {};
    if (!write_all(fd, as_text(ByteView(buffer).first(n))).ok()) return {};
  }
}

Result<std::pair<UniqueFd, UniqueFd>> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return sys_error("pipe");
  return std::pair<UniqueFd, UniqueFd>(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

// A child that unpacks, and the pipe it answers on.
struct Worker {
  Child child;
  UniqueFd answer;
};

Result<Worker> start_worker(const std::string& program, const char* command, const Limits& limits,
                            std::vector<SpawnOptions::FdMapping> fds) {
  MSB_ASSIGN(auto pipe, make_pipe());
  SpawnOptions options;
  options.path = program;
  options.argv = {"msb-image",
                  command,
                  "--max-layer-size=" + std::to_string(limits.max_layer_bytes),
                  "--max-file-size=" + std::to_string(limits.max_file_bytes),
                  "--max-image-size=" + std::to_string(limits.max_image_bytes),
                  "--max-entries=" + std::to_string(limits.max_entries)};
  options.fds = std::move(fds);
  options.fds.push_back({STDERR_FILENO, STDERR_FILENO});
  options.fds.push_back({pipe.second.get(), kAnswerFd});
  options.die_with_parent = true;
  MSB_ASSIGN(Child child, spawn(options));
  return Worker{std::move(child), std::move(pipe.first)};
}

Result<JsonDocument> finish_worker(Worker& worker) {
  const auto text = read_all(worker.answer.get(), kMaxAnswer);
  MSB_ASSIGN(const ExitStatus status, worker.child.wait());
  if (!status.success())
    return make_error(Errc::kInternal, "the unpacker ended with %s %d",
                      status.signal != 0 ? "signal" : "exit code",
                      status.signal != 0 ? status.signal : status.code);
  if (!text) return Error(text.error()).with_context("the unpacker's answer");
  return parse_answer(*text);
}

}  // namespace

// What the unpacker's two threads do, and the C and C++ runtimes beneath them.
std::vector<confine::AllowedCall> unpacker_calls() {
  // What pthread_create asks for, and nothing else: no processes, no namespaces.
  constexpr std::uint64_t kThreadFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                                         CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID |
                                         CLONE_CHILD_CLEARTID;
  return {
      {__NR_read},
      {__NR_write},
      {__NR_pwrite64},
      {__NR_pread64},  // only when a layer's table is read back
      {__NR_lseek},    // only when a layer's table is read back
      {__NR_ftruncate},
      {__NR_fstat},       // only before a file is mapped
      {__NR_newfstatat},  // only before a file is mapped
      {__NR_close},       // only at a failure
      {__NR_brk},
      // Memory, but never executable memory.
      {__NR_mmap, {{2, 0, PROT_EXEC}}},
      {__NR_munmap},
      {__NR_mremap},  // only when a large vector grows
      {__NR_madvise},
      {__NR_mprotect, {{2, 0, PROT_EXEC}}},
      {__NR_futex},
      // The second thread. clone3 keeps its flags in memory, where no filter can look: without it the C
      // library uses clone.
      {__NR_clone3, {}, ENOSYS},
      {__NR_clone, {{0, kThreadFlags}}},
      {__NR_set_robust_list},
      {__NR_rseq},
      {__NR_sched_getaffinity},  // only where malloc asks for the number of processors
      {__NR_clock_gettime},      // only where the vDSO has no clock
      {__NR_getrandom},          // only when malloc makes its first key
      {__NR_exit},
      {__NR_exit_group},
      {__NR_rt_sigaction},
      {__NR_rt_sigprocmask},
      {__NR_restart_syscall},  // only after SIGSTOP and SIGCONT
      {__NR_getpid},           // only in abort()
      {__NR_gettid},           // only in abort()
      {__NR_tgkill},           // only in abort()
  };
}

Result<LayerSummary> unpack_layer_confined(const std::string& program, ByteStream& input,
                                           const LayerFiles& files, const Limits& limits) {
  MSB_ASSIGN(auto layer, make_pipe());
  (void)::fcntl(layer.second.get(), F_SETPIPE_SZ,
                static_cast<int>(kCopyBuffer));  // fewer switches where allowed
  MSB_ASSIGN(Worker worker, start_worker(program, "unpack-layer", limits,
                                         {{layer.first.get(), STDIN_FILENO},
                                          {files.blob, kBlobFd},
                                          {files.split, kSplitFd},
                                          {files.scratch, kScratchFd}}));
  layer.first.reset();
  const Status fed = feed(input, layer.second.get());
  if (!fed.ok()) {
    // The stream is not whole: what the child makes of it does not matter.
    (void)worker.child.send_signal(9).ok();
    (void)worker.child.wait().ok();
    return fed.error();
  }
  layer.second.reset();
  MSB_ASSIGN(const JsonDocument document, finish_worker(worker));
  return read_summary(document.root());
}

Result<DiskSummary> unpack_disk_confined(const std::string& program, int fd, int out_fd,
                                         const Limits& limits) {
  MSB_ASSIGN(Worker worker,
             start_worker(program, "unpack-disk", limits, {{fd, STDIN_FILENO}, {out_fd, kBlobFd}}));
  MSB_ASSIGN(const JsonDocument document, finish_worker(worker));
  const JsonView root = document.root();
  DiskSummary summary;
  MSB_ASSIGN(summary.id_hex, root.get_string("id"));
  if (!is_sha256_digest("sha256:" + summary.id_hex)) return make_error(Errc::kProtocol, "not a digest");
  MSB_ASSIGN(summary.bytes, root.get_uint("bytes"));
  MSB_ASSIGN(summary.file_system, root.get_string("file_system"));
  return summary;
}

Status run_unpack_process(const Limits& limits) {
  prepare_child();
  FdStream input(STDIN_FILENO);
  return answer(unpack_layer(input, {kBlobFd, kSplitFd, kScratchFd}, limits),
                [](JsonWriter& json, const LayerSummary& summary) {
                  json.field("diff_id", summary.diff_id_hex).field("tar_bytes", summary.tar_bytes);
                  json.field("blob_bytes", summary.blob_bytes).field("entries", summary.entries);
                  json.field("dropped_xattrs", summary.dropped_xattrs);
                });
}

Status run_unpack_disk_process(const Limits& limits) {
  prepare_child();
  return answer(unpack_disk(STDIN_FILENO, kBlobFd, limits), [](JsonWriter& json, const DiskSummary& summary) {
    json.field("id", summary.id_hex).field("bytes", summary.bytes).field("file_system", summary.file_system);
  });
}

}  // namespace msb::oci
