// SPDX-License-Identifier: Apache-2.0
#include "oci/archive_contents.h"

#include <algorithm>
#include <cstring>

#include "oci/decompress.h"
#include "oci/digest.h"
#include "oci/layer_stage.h"
#include "oci/media_types.h"
#include "oci/tar_numbers.h"

namespace msb::oci {
namespace {

constexpr std::size_t kMaxDocumentBytes = 64U << 20;  // all of one archive
constexpr std::size_t kTarBlock = 512;
constexpr int kMaxArchiveLinks = 8;

// Gives back what was read ahead to find out what a stream is, then the rest; counts and hashes all of it.
class PeekedStream final : public ByteStream {
 public:
  explicit PeekedStream(ByteStream& inner) : inner_(inner) {}
  // Reads up to `count` bytes ahead.
  Result<ByteView> peek(std::size_t count) {
    start_.resize(count);
    std::size_t have = 0;
    while (have < count) {
      MSB_ASSIGN(const std::size_t n, inner_.read(MutableBytes(start_).subspan(have)));
      if (n == 0) break;
      have += n;
    }
    start_.resize(have);
    return ByteView(start_);
  }
  void hash_as_well() { hash_.emplace(); }
  [[nodiscard]] Result<std::size_t> read(MutableBytes out) override {
    std::size_t n = 0;
    if (given_ < start_.size()) {
      n = std::min(out.size(), start_.size() - given_);
      std::memcpy(out.data(), start_.data() + given_, n);
      given_ += n;
    } else {
      MSB_ASSIGN(n, inner_.read(out));
    }
    total_ += n;
    if (hash_) hash_->update(out.first(n));
    return n;
  }
  [[nodiscard]] std::uint64_t total() const { return total_; }
  [[nodiscard]] std::string finish_hex() { return hash_->finish_hex(); }

 private:
  ByteStream& inner_;
  Bytes start_;
  std::size_t given_ = 0;
  std::uint64_t total_ = 0;
  std::optional<Sha256Stream> hash_;
};

// A tar header, or the zeros of an empty archive.
bool looks_like_tar(ByteView start) {
  if (start.size() < kTarBlock) return false;
  if (std::all_of(start.begin(), start.end(), [](std::uint8_t b) { return b == 0; })) return true;
  constexpr std::size_t kChecksumAt = 148, kChecksumSize = 8;
  const auto stored = parse_tar_number(start.subspan(kChecksumAt, kChecksumSize));
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < kTarBlock; ++i)
    sum += i >= kChecksumAt && i < kChecksumAt + kChecksumSize ? ' ' : start[i];
  return stored && *stored == sum;
}

}  // namespace

std::optional<std::string> archive_link_target(const std::string& link, const std::string& target) {
  std::vector<std::string> parts;
  const std::size_t slash = link.rfind('/');
  std::string path =
      (target.starts_with('/') || slash == std::string::npos ? "" : link.substr(0, slash) + "/") + target;
  for (std::string_view rest = path; !rest.empty();) {
    const std::size_t end = rest.find('/');
    const std::string_view part = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      if (parts.empty()) return std::nullopt;
      parts.pop_back();
    } else {
      parts.emplace_back(part);
    }
  }
  std::string clean;
  for (const std::string& part : parts) clean += (clean.empty() ? "" : "/") + part;
  return clean;
}

Status ArchiveContents::add_file(const std::string& name, ByteStream& content) {
  PeekedStream stream(content);
  MSB_ASSIGN(const ByteView start, stream.peek(kTarBlock));
  const auto first = std::find_if(start.begin(), start.end(), [](std::uint8_t b) {
    return b != ' ' && b != '\n' && b != '\r' && b != '\t';
  });
  const Compression compression = detect_compression(start);
  if (compression == Compression::kNone && !looks_like_tar(start)) {
    if (first == start.end() || (*first != '{' && *first != '[')) return {};  // not ours to know
    std::string text;
    Bytes buffer(64 * 1024);
    for (;;) {
      MSB_ASSIGN(const std::size_t n, stream.read(buffer));
      if (n == 0) break;
      text.append(as_text(ByteView(buffer).first(n)));
      if (text.size() > kMaxConfigBytes || text.size() > kMaxDocumentBytes - document_bytes_) {
        return make_error(Errc::kLimit, "archive member \"%s\": a JSON document of more than %zu bytes",
                          name.c_str(), text.size());
      }
    }
    document_bytes_ += text.size();
    documents_[name] = std::move(text);
    return {};
  }
  if (compression != Compression::kNone) stream.hash_as_well();
  auto staged = stage_layer(store_, stream, "", options_);
  if (!staged) return std::move(staged).error().with_context("archive member \"" + name + "\"");
  StagedLayer layer;
  layer.diff_id = "sha256:" + staged->diff_id_hex;
  layer.size = stream.total();
  layer.digest = compression == Compression::kNone ? layer.diff_id : "sha256:" + stream.finish_hex();
  layer.media_type = compression == Compression::kGzip   ? kOciLayerGzip
                     : compression == Compression::kZstd ? kOciLayerZstd
                                                         : kOciLayer;
  layers_[name] = std::move(layer);
  return {};
}

std::string ArchiveContents::follow(std::string name) const {
  for (int i = 0; i < kMaxArchiveLinks; ++i) {
    const auto link = links_.find(name);
    if (link == links_.end()) break;
    name = link->second;
  }
  return name;
}

const std::string* ArchiveContents::json(const std::string& name) const {
  const auto found = documents_.find(follow(name));
  return found == documents_.end() ? nullptr : &found->second;
}

const StagedLayer* ArchiveContents::layer(const std::string& name) const {
  const auto found = layers_.find(follow(name));
  return found == layers_.end() ? nullptr : &found->second;
}

}  // namespace msb::oci
