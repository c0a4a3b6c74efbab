// SPDX-License-Identifier: Apache-2.0
// Device: what a virtio device model implements, and its configuration space.
//
// Life cycle, driven by the transport. All calls come on the device's loop, process() on the queue's loop:
//
//              activate(session)              reset()
//   inactive ---------------------> active ---------------> inactive
//                                    |  ^
//                            pause() |  | resume()
//                                    v  |
//                                   paused   (queues' cursors may be saved now)
//
// A device touches queues and guest memory only while holding a lease of the session. process() is called
// with one held; a handler of the device's own descriptors and timers takes one first and returns if there is
// none (reset() or pause() is then on its way). Each call does a bounded amount of work.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>

#include "base/bytes.h"
#include "base/event_loop.h"
#include "devices/virtio/session.h"

namespace msb::devices {

// Device ids (virtio 1.2, section 5).
enum class DeviceType : std::uint32_t {
  kNet = 1,
  kBlock = 2,
  kConsole = 3,
  kEntropy = 4,
  kBalloon = 5,
  kVsock = 19,
};

// The bytes a driver reads at the configuration offsets. Any thread.
class ConfigSpace {
 public:
  ConfigSpace() = default;
  explicit ConfigSpace(Bytes bytes) : bytes_(std::move(bytes)) {}
  // What lies past the end reads as zeros.
  void read(std::uint64_t offset, MutableBytes out) const;
  // By the device: replaces bytes inside the space and counts a new generation. The caller signals the
  // driver.
  void update(std::size_t offset, ByteView bytes);
  // Changes on every update (4.2.2: ConfigGeneration).
  [[nodiscard]] std::uint32_t generation() const;
  [[nodiscard]] Bytes snapshot() const;
  [[nodiscard]] std::size_t size() const { return snapshot().size(); }
  // From a saved state; wrong sizes are refused.
  [[nodiscard]] bool restore(ByteView bytes, std::uint32_t generation);

 private:
  mutable std::mutex mutex_;
  Bytes bytes_;
  std::uint32_t generation_ = 0;
};

class Device {
 public:
  virtual ~Device() = default;

  // Constant properties; any thread.
  [[nodiscard]] virtual DeviceType type() const = 0;
  // Device-specific feature bits offered. The transport adds those of the ring and VERSION_1.
  [[nodiscard]] virtual std::uint64_t features() const = 0;
  // The largest size of each queue; a power of two up to kMaxQueueSize. As many queues as entries.
  [[nodiscard]] virtual std::span<const std::uint16_t> queue_sizes() const = 0;
  // Whether the driver's choice (a subset of what was offered) makes sense (2.2.2). vCPU thread; pure.
  [[nodiscard]] virtual bool accepts(std::uint64_t driver_features) const {
    static_cast<void>(driver_features);
    return true;
  }
  // Where the driver's configuration writes are welcome: [begin, end) offsets.
  struct ConfigWindow {
    std::uint32_t begin = 0;
    std::uint32_t end = 0;
  };
  [[nodiscard]] virtual ConfigWindow writable_config() const { return {}; }

  // The loops the device runs on; they outlive it.
  [[nodiscard]] virtual EventLoop& loop() = 0;
  [[nodiscard]] virtual EventLoop& queue_loop(std::uint16_t queue) {
    static_cast<void>(queue);
    return loop();
  }

  virtual void activate(std::shared_ptr<DriverSession> session) = 0;
  // The session is closed already. Drop it, and all that belonged to the driver.
  virtual void reset() = 0;
  // The driver made buffers available on `queue`, or kick_again() was called, or the session has just started
  // or resumed. May be called for nothing.
  virtual void process(DriverSession& session, std::uint16_t queue) = 0;
  // The driver wrote `bytes` at `offset`, inside writable_config().
  virtual void config_written(std::uint32_t offset, ByteView bytes) {
    static_cast<void>(offset);
    static_cast<void>(bytes);
  }
  // Stop hearing own descriptors and timers, give popped buffers back; resume() undoes it.
  virtual void pause() {}
  virtual void resume() {}
  // What must survive save and restore beyond the configuration space and the queues' cursors. While paused.
  [[nodiscard]] virtual Bytes save() const { return {}; }
  // Before activation, on a fresh device.
  [[nodiscard]] virtual Status restore(ByteView state) {
    if (state.empty()) return {};
    return make_error(Errc::kInvalid, "device state where none is expected");
  }

  [[nodiscard]] ConfigSpace& config_space() { return config_; }
  [[nodiscard]] const ConfigSpace& config_space() const { return config_; }

 protected:
  Device() = default;
  explicit Device(Bytes config) : config_(std::move(config)) {}

 private:
  ConfigSpace config_;
};

}  // namespace msb::devices
