// SPDX-License-Identifier: Apache-2.0
// msb-image mkfs-upper: the empty ext4 a sandbox's writes go to.
#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "oci/commands.h"
#include "oci/ext4_writer.h"

namespace msb::oci {

Status mkfs_upper_command(const Arguments& arguments) {
  Options options("mkfs-upper PATH SIZE   (SIZE: 16M to 16T)");
  MSB_TRY(options.parse(arguments));
  if (options.positional().size() != 2)
    return make_error(Errc::kInvalid, "usage: msb-image mkfs-upper PATH SIZE");
  const std::string& path = options.positional()[0];
  ext4::Parameters parameters;
  MSB_ASSIGN(parameters.bytes, parse_size(options.positional()[1]));
  parameters.time_s = wall_clock_ns() / 1'000'000'000;
  if (::getrandom(parameters.uuid.data(), parameters.uuid.size(), 0) < 0 ||
      ::getrandom(parameters.hash_seed.data(), parameters.hash_seed.size(), 0) < 0) {
    return sys_error("get random bytes");
  }
  parameters.uuid[6] = static_cast<std::uint8_t>((parameters.uuid[6] & 0x0f) | 0x40);  // RFC 4122: version 4
  parameters.uuid[8] = static_cast<std::uint8_t>((parameters.uuid[8] & 0x3f) | 0x80);

  // Complete under another name first: whoever finds the file at its place may use it at once.
  const std::string temporary = path + ".tmp." + std::to_string(::getpid());
  MSB_ASSIGN(const UniqueFd fd, open_file(temporary, O_RDWR | O_CREAT | O_EXCL));
  Status status = ext4::make_filesystem(fd.get(), parameters);
  if (status.ok() && ::fdatasync(fd.get()) != 0) status = sys_error("sync " + path);
  if (status.ok() && ::rename(temporary.c_str(), path.c_str()) != 0) status = sys_error("rename to " + path);
  if (!status.ok()) ::unlink(temporary.c_str());
  return std::move(status).with_context("make " + path);
}

}  // namespace msb::oci
