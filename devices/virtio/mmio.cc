// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/mmio.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "base/check.h"
#include "devices/virtio/status.h"

namespace msb::devices {
namespace {

// 4.2.2: register offsets
enum Register : std::uint64_t {
  kMagic = 0x000,
  kVersion = 0x004,
  kDeviceId = 0x008,
  kVendorId = 0x00c,
  kDeviceFeatures = 0x010,
  kDeviceFeaturesSelect = 0x014,
  kDriverFeatures = 0x020,
  kDriverFeaturesSelect = 0x024,
  kQueueSelect = 0x030,
  kQueueSizeMax = 0x034,
  kQueueSize = 0x038,
  kQueueReady = 0x044,
  kQueueNotify = kMmioQueueNotify,
  kInterruptStatus = 0x060,
  kInterruptAck = 0x064,
  kStatus = 0x070,
  kQueueDescLow = 0x080,
  kQueueDescHigh = 0x084,
  kQueueDriverLow = 0x090,
  kQueueDriverHigh = 0x094,
  kQueueDeviceLow = 0x0a0,
  kQueueDeviceHigh = 0x0a4,
  kShmLengthLow = 0x0b0,
  kShmLengthHigh = 0x0b4,
  kShmBaseLow = 0x0b8,
  kShmBaseHigh = 0x0bc,
  kConfigGeneration = 0x0fc,
  kConfig = 0x100,
};

constexpr std::uint32_t kMagicValue = 0x74726976;  // "virt"
constexpr std::uint32_t kVersionValue = 2;
constexpr std::uint32_t kVendorValue = 0x0062736d;  // "msb"
// Configuration writes waiting for the loop; a driver that outruns it loses the rest, counted.
constexpr std::size_t kMaxConfigWrites = 64;

std::uint32_t half(std::uint64_t value, std::uint32_t select) {
  if (select > 1) return 0;
  return static_cast<std::uint32_t>(value >> (32 * select));
}
std::uint64_t with_half(std::uint64_t value, std::uint32_t select, std::uint32_t part) {
  const unsigned shift = 32 * select;
  return (value & ~(std::uint64_t{0xffff'ffff} << shift)) | std::uint64_t{part} << shift;
}
void set_half(vmm::Gpa& address, std::uint32_t select, std::uint32_t part) {
  address = vmm::Gpa{with_half(vmm::to_u64(address), select, part)};
}

}  // namespace

Result<std::unique_ptr<MmioTransport>> MmioTransport::create(Device& device, vmm::GuestMemory& memory,
                                                             IrqLine& irq) {
  std::unique_ptr<MmioTransport> transport(new MmioTransport(device, memory, irq));
  for (const std::uint16_t max_size : device.queue_sizes()) {
    QueueSlot slot;
    slot.max_size = max_size;
    slot.kick.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!slot.kick) return sys_error("create queue eventfd");
    transport->queues_.push_back(std::move(slot));
  }
  return transport;
}

MmioTransport::MmioTransport(Device& device, vmm::GuestMemory& memory, IrqLine& irq)
    : device_(device), memory_(memory), face_(irq) {}

MmioTransport::~MmioTransport() {
  for (std::uint16_t i = 0; i < queue_count(); ++i) device_.queue_loop(i).remove(queues_[i].token);
}

std::uint64_t MmioTransport::offered_features() const {
  return device_.features() | kFeatureVersion1 | kFeatureIndirect | kFeatureEventIdx;
}

bool MmioTransport::features_acceptable() const {
  return (driver_features_ & ~offered_features()) == 0 && (driver_features_ & kFeatureVersion1) != 0 &&
         device_.accepts(driver_features_);
}

MmioTransport::QueueSlot* MmioTransport::selected_queue() {
  return queue_select_ < queues_.size() ? &queues_[queue_select_] : nullptr;
}

// ---- vCPU side

void MmioTransport::read(std::uint64_t offset, MutableBytes data) {
  if (offset >= kConfig) {
    device_.config_space().read(offset - kConfig, data);
    return;
  }
  std::fill(data.begin(), data.end(), std::uint8_t{0});
  // 4.2.2.2: only aligned 32-bit accesses to the registers.
  if (data.size() != sizeof(std::uint32_t) || offset % sizeof(std::uint32_t) != 0) {
    reject();
    return;
  }
  const Le32 value(read_register(offset));
  std::memcpy(data.data(), &value, sizeof value);
}

std::uint32_t MmioTransport::read_register(std::uint64_t offset) {
  switch (offset) {
    case kMagic:
      return kMagicValue;
    case kVersion:
      return kVersionValue;
    case kDeviceId:
      return static_cast<std::uint32_t>(device_.type());
    case kVendorId:
      return kVendorValue;
    case kInterruptStatus:
      return face_.interrupt_status.load(std::memory_order_acquire);
    case kStatus:
      return face_.status.load(std::memory_order_acquire);
    case kConfigGeneration:
      return device_.config_space().generation();
    // 4.2.2: a region that does not exist has length -1, and base -1.
    case kShmLengthLow:
    case kShmLengthHigh:
    case kShmBaseLow:
    case kShmBaseHigh:
      return 0xffff'ffff;
    default:
      break;
  }
  const std::lock_guard lock(mutex_);
  const QueueSlot* slot = selected_queue();
  switch (offset) {
    case kDeviceFeatures:
      return half(offered_features(), device_features_select_);
    case kQueueSizeMax:
      return slot != nullptr ? slot->max_size : 0;
    case kQueueReady:
      return slot != nullptr && slot->ready ? 1 : 0;
    default:
      reject();
      return 0;
  }
}

void MmioTransport::write(std::uint64_t offset, ByteView data) {
  if (offset >= kConfig) {
    if (!write_config(offset - kConfig, data)) reject();
    return;
  }
  Le32 value;
  if (data.size() != sizeof value || offset % sizeof value != 0) {
    reject();
    return;
  }
  std::memcpy(&value, data.data(), sizeof value);
  if (!write_register(offset, value.get())) reject();
}

bool MmioTransport::write_register(std::uint64_t offset, std::uint32_t value) {
  switch (offset) {
    case kQueueNotify: {
      if (value >= queues_.size()) return false;
      const std::uint64_t one = 1;
      [[maybe_unused]] const auto written = ::write(queues_[value].kick.get(), &one, sizeof one);
      return true;
    }
    case kInterruptAck:
      face_.interrupt_status.fetch_and(~value, std::memory_order_acq_rel);
      return true;
    default:
      break;
  }
  const std::lock_guard lock(mutex_);
  switch (offset) {
    case kStatus:
      return write_status(value);
    case kDeviceFeaturesSelect:
      device_features_select_ = value;
      return true;
    case kDriverFeaturesSelect:
      driver_features_select_ = value;
      return true;
    case kQueueSelect:
      queue_select_ = value;
      return true;
    case kDriverFeatures: {
      const std::uint32_t status = face_.status.load(std::memory_order_acquire);
      const bool choosing = (status & kStatusDriver) != 0 && (status & kStatusFeaturesOk) == 0;
      if (!choosing || driver_features_select_ > 1) return false;
      driver_features_ = with_half(driver_features_, driver_features_select_, value);
      return true;
    }
    default:
      return write_queue_register(offset, value);
  }
}

// Frozen per queue by QueueReady, for all by DRIVER_OK.
bool MmioTransport::write_queue_register(std::uint64_t offset, std::uint32_t value) {
  const std::uint32_t status = face_.status.load(std::memory_order_acquire);
  QueueSlot* slot = selected_queue();
  if (slot == nullptr || (status & kStatusFeaturesOk) == 0 || (status & kStatusDriverOk) != 0) return false;
  if (offset == kQueueReady) {
    slot->ready = (value & 1) != 0;
    return true;
  }
  if (slot->ready) return false;
  QueueConfig& config = slot->config;
  switch (offset) {
    case kQueueSize:
      if (value == 0 || value > slot->max_size || (value & (value - 1)) != 0) return false;
      config.size = static_cast<std::uint16_t>(value);
      return true;
    case kQueueDescLow:
      set_half(config.descriptors, 0, value);
      return true;
    case kQueueDescHigh:
      set_half(config.descriptors, 1, value);
      return true;
    case kQueueDriverLow:
      set_half(config.available, 0, value);
      return true;
    case kQueueDriverHigh:
      set_half(config.available, 1, value);
      return true;
    case kQueueDeviceLow:
      set_half(config.used, 0, value);
      return true;
    case kQueueDeviceHigh:
      set_half(config.used, 1, value);
      return true;
    default:
      return false;
  }
}

bool MmioTransport::write_status(std::uint32_t value) {
  if (value == 0) {
    end_session();
    return true;
  }
  const std::uint32_t status = face_.status.load(std::memory_order_acquire);
  const std::uint32_t own = status & ~kStatusNeedsReset;
  const std::uint32_t wanted = value & ~kStatusNeedsReset;  // that bit is the device's
  const std::uint32_t added = wanted & ~own;
  if ((own & ~wanted) != 0) return false;  // 2.1.1: the driver must not clear a bit
  if (added == 0) return true;
  if ((added & kStatusFailed) != 0) {
    face_.status.fetch_or(kStatusFailed, std::memory_order_acq_rel);
    return added == kStatusFailed;
  }
  if ((own & kStatusFailed) != 0) return false;
  // 3.1.1: one step at a time, each after the one before.
  constexpr std::uint32_t kAfterDriver = kStatusAcknowledge | kStatusDriver;
  const bool in_order =
      (added == kStatusAcknowledge && own == 0) || (added == kStatusDriver && own == kStatusAcknowledge) ||
      (added == kAfterDriver && own == 0) || (added == kStatusFeaturesOk && own == kAfterDriver) ||
      (added == kStatusDriverOk && own == (kAfterDriver | kStatusFeaturesOk));
  if (!in_order) return false;
  // 3.1.1 step 6: a refusal shows by FEATURES_OK staying clear.
  if (added == kStatusFeaturesOk && !features_acceptable()) return false;
  face_.status.fetch_or(added, std::memory_order_acq_rel);
  if (added == kStatusDriverOk) start_session(nullptr);
  return true;
}

void MmioTransport::start_session(const MmioState* restored) {
  std::vector<std::optional<Queue>> queues(queues_.size());
  std::vector<int> kick_fds;
  const char* failure = nullptr;
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    kick_fds.push_back(queues_[i].kick.get());
    if (!queues_[i].ready) continue;
    auto queue = Queue::create(queues_[i].config, memory_, driver_features_,
                               restored != nullptr ? restored->queues[i].cursors : QueueState{});
    if (queue.ok()) {
      queues[i].emplace(std::move(queue).value());
    } else {
      failure = "a queue's size or addresses are not valid";
    }
  }
  auto session = std::make_shared<DriverSession>(face_, driver_features_, memory_, std::move(queues),
                                                 std::move(kick_fds));
  if (failure != nullptr) {
    session->fail(failure);
    return;  // the device never sees it
  }
  want(std::move(session));
}

void MmioTransport::end_session() {
  std::shared_ptr<DriverSession> session;
  {
    const std::lock_guard lock(wanted_mutex_);
    session = wanted_;
  }
  if (session != nullptr) {
    session->close();
    want(nullptr);
  }
  for (QueueSlot& slot : queues_) {
    slot.config = {};
    slot.ready = false;
  }
  device_features_select_ = driver_features_select_ = queue_select_ = 0;
  driver_features_ = 0;
  face_.failure.store(nullptr, std::memory_order_release);
  face_.interrupt_status.store(0, std::memory_order_release);
  face_.status.store(0, std::memory_order_release);
}

bool MmioTransport::write_config(std::uint64_t offset, ByteView data) {
  const Device::ConfigWindow window = device_.writable_config();
  if (offset < window.begin || offset >= window.end || data.size() > window.end - offset) return false;
  if ((face_.status.load(std::memory_order_acquire) & kStatusDriver) == 0) return false;
  const std::lock_guard lock(wanted_mutex_);
  if (config_writes_.size() >= kMaxConfigWrites) return false;
  config_writes_.push_back({static_cast<std::uint32_t>(offset), Bytes(data.begin(), data.end())});
  schedule_sync();
  return true;
}

void MmioTransport::want(std::shared_ptr<DriverSession> session) {
  const std::lock_guard lock(wanted_mutex_);
  wanted_ = std::move(session);
  schedule_sync();
}

// With wanted_mutex_ held.
void MmioTransport::schedule_sync() {
  if (sync_posted_) return;
  sync_posted_ = true;
  device_.loop().post([this] { sync(); });
}

// ---- loop side

void MmioTransport::sync() {
  std::shared_ptr<DriverSession> wanted;
  {
    const std::lock_guard lock(wanted_mutex_);
    sync_posted_ = false;
    wanted = wanted_;
  }
  if (wanted != current_) {
    if (current_ != nullptr) device_.reset();
    current_ = wanted;
    if (current_ != nullptr) device_.activate(current_);
    if (current_ != nullptr && paused_) {
      current_->pause();
      device_.pause();
    }
    for (std::uint16_t i = 0; i < queue_count(); ++i) bind_queue(i, paused_ ? nullptr : current_);
  }
  deliver_config_writes();
}

void MmioTransport::deliver_config_writes() {
  std::vector<ConfigWrite> writes;
  {
    const std::lock_guard lock(wanted_mutex_);
    writes.swap(config_writes_);
  }
  for (const ConfigWrite& write : writes) device_.config_written(write.offset, write.bytes);
}

// Makes the queue's loop listen to kicks for `session` (null: not at all).
void MmioTransport::bind_queue(std::uint16_t index, std::shared_ptr<DriverSession> session) {
  EventLoop& loop = device_.queue_loop(index);
  const auto bind = [this, index, &loop, session = std::move(session)] {
    QueueSlot& slot = queues_[index];
    slot.bound = session;
    if (session == nullptr) {
      loop.remove(slot.token);
      slot.token = {};
      return;
    }
    if (!slot.token.valid()) {
      auto token = loop.add(slot.kick.get(), EPOLLIN, [this, index](std::uint32_t) { on_kick(index); });
      if (!token.ok()) return;  // out of memory for epoll: the queue stands still
      slot.token = *token;
    }
    // Kicks may have come before anyone listened.
    if (const auto lease = session->enter()) device_.process(*session, index);
  };
  if (&loop == &device_.loop()) {
    bind();
  } else {
    loop.post(bind);
  }
}

void MmioTransport::on_kick(std::uint16_t index) {
  const std::shared_ptr<DriverSession> session = queues_[index].bound;
  if (session == nullptr) return;
  const auto lease = session->enter();
  // Without a lease the session is over and the kick, if any, is for the next one: leave it in the
  // descriptor. The task that binds the next session (or none) is posted already.
  if (!lease) return;
  std::uint64_t drained = 0;
  [[maybe_unused]] const auto got = ::read(queues_[index].kick.get(), &drained, sizeof drained);
  device_.process(*session, index);
}

void MmioTransport::pause() {
  if (paused_) return;
  paused_ = true;
  if (current_ == nullptr) return;
  current_->pause();
  device_.pause();
  for (std::uint16_t i = 0; i < queue_count(); ++i) bind_queue(i, nullptr);
}

void MmioTransport::resume() {
  if (!paused_) return;
  paused_ = false;
  if (current_ == nullptr) return;
  current_->resume();
  device_.resume();
  for (std::uint16_t i = 0; i < queue_count(); ++i) bind_queue(i, current_);
}

MmioState MmioTransport::save() const {
  MmioState state;
  state.device_type = static_cast<std::uint32_t>(device_.type());
  state.status = face_.status.load(std::memory_order_acquire);
  state.interrupt_status = face_.interrupt_status.load(std::memory_order_acquire);
  const std::lock_guard lock(mutex_);
  state.device_features_select = device_features_select_;
  state.driver_features_select = driver_features_select_;
  state.queue_select = queue_select_;
  state.driver_features = driver_features_;
  for (std::uint16_t i = 0; i < queue_count(); ++i) {
    MmioState::QueueRegisters registers{queues_[i].config, queues_[i].ready, {}};
    if (current_ != nullptr) {
      if (const Queue* queue = current_->queue(i)) registers.cursors = queue->state();
    }
    state.queues.push_back(registers);
  }
  state.config = device_.config_space().snapshot();
  state.config_generation = device_.config_space().generation();
  state.device = device_.save();
  return state;
}

Status MmioTransport::restore(const MmioState& state) {
  if (state.device_type != static_cast<std::uint32_t>(device_.type()) ||
      state.queues.size() != queues_.size()) {
    return make_error(Errc::kInvalid, "saved state is of another device");
  }
  if ((state.driver_features & ~offered_features()) != 0) {
    return make_error(Errc::kInvalid, "saved state uses features this device does not offer");
  }
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    if (state.queues[i].config.size > queues_[i].max_size) {
      return make_error(Errc::kInvalid, "saved queue is larger than this device's");
    }
  }
  if (!device_.config_space().restore(state.config, state.config_generation)) {
    return make_error(Errc::kInvalid, "saved configuration space has another size");
  }
  MSB_TRY(device_.restore(state.device));
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    queues_[i].config = state.queues[i].config;
    queues_[i].ready = state.queues[i].ready;
  }
  device_features_select_ = state.device_features_select;
  driver_features_select_ = state.driver_features_select;
  queue_select_ = state.queue_select;
  driver_features_ = state.driver_features;
  face_.interrupt_status.store(state.interrupt_status, std::memory_order_release);
  face_.status.store(state.status, std::memory_order_release);
  paused_ = true;
  if ((state.status & kStatusDriverOk) != 0) start_session(&state);
  sync();
  return {};
}

}  // namespace msb::devices
