// SPDX-License-Identifier: Apache-2.0
// The C++ runtime's ways to fail, cut down to "say so and stop": linked into the agent only. Without
// exceptions a throw ends the process anyway; what is saved is the unwinder, the demangler and the exception
// classes, a third of the program's size. Names and signatures are libstdc++'s own (bits/functexcept.h).
#include <bits/functexcept.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

namespace {
[[noreturn]] void stop(const char* what) {
  [[maybe_unused]] ssize_t written = ::write(STDERR_FILENO, what, std::strlen(what));
  written = ::write(STDERR_FILENO, "\n", 1);
  std::abort();
}

void* allocate(std::size_t size) {
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) stop("msb-agent: out of memory");
  return memory;
}
}  // namespace

void* operator new(std::size_t size) { return allocate(size); }
void* operator new[](std::size_t size) { return allocate(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace std {
void __throw_bad_alloc() { stop("bad_alloc"); }
void __throw_bad_array_new_length() { stop("bad_array_new_length"); }
void __throw_bad_function_call() { stop("bad_function_call"); }
void __throw_length_error(const char* what) { stop(what); }
void __throw_logic_error(const char* what) { stop(what); }
void __throw_out_of_range(const char* what) { stop(what); }
void __throw_out_of_range_fmt(const char* what, ...) { stop(what); }
void __throw_invalid_argument(const char* what) { stop(what); }
void __throw_system_error(int) { stop("system_error"); }
#ifdef _GLIBCXX_ASSERTIONS
void __glibcxx_assert_fail(const char* /*file*/, int /*line*/, const char* function,
                           const char* condition) noexcept {
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, function, std::strlen(function));
  stop(condition);
}
#endif
}  // namespace std

namespace __gnu_cxx {
void __verbose_terminate_handler();  // NOLINT(bugprone-reserved-identifier): the name is the library's
void __verbose_terminate_handler() { stop("terminate"); }
}  // namespace __gnu_cxx
