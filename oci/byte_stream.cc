// SPDX-License-Identifier: Apache-2.0
#include "oci/byte_stream.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace msb::oci {

Result<std::size_t> FdStream::read(MutableBytes out) {
  for (;;) {
    const ssize_t n = ::read(fd_, out.data(), out.size());
    if (n >= 0) {
      total_ += static_cast<std::uint64_t>(n);
      return static_cast<std::size_t>(n);
    }
    if (errno != EINTR) return sys_error("read the input");
  }
}

Result<std::size_t> SourceStream::read(MutableBytes out) {
  if (piece_.empty()) {
    MSB_ASSIGN(piece_, source_.read());
  }
  const std::size_t take = std::min(out.size(), piece_.size());
  if (take > 0) std::memcpy(out.data(), piece_.data(), take);
  piece_ = piece_.subspan(take);
  return take;
}

Result<ByteView> StreamSource::read() {
  MSB_ASSIGN(const std::size_t n, stream_.read(buffer_));
  return ByteView(buffer_).first(n);
}

}  // namespace msb::oci
