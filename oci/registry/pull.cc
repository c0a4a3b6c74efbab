// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/pull.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>

#include "base/log.h"
#include "oci/digest.h"
#include "oci/image.h"
#include "oci/registry/credentials.h"
#include "oci/registry/registry.h"

namespace msb::oci {
namespace {

constexpr int kMaxIndexDepth = 4;
constexpr std::size_t kShownDigits = 12;
constexpr std::uint64_t kWorthKeeping = 1U << 20;  // of a download that breaks off, for the next pull

// Tells the progress what passes.
class CountedStream final : public ByteStream {
 public:
  CountedStream(ByteStream& inner, Progress& progress, std::size_t layer)
      : inner_(inner), progress_(progress), layer_(layer) {}
  [[nodiscard]] Result<std::size_t> read(MutableBytes out) override {
    MSB_ASSIGN(const std::size_t n, inner_.read(out));
    progress_.advance(layer_, n);
    return n;
  }

 private:
  ByteStream& inner_;
  Progress& progress_;
  std::size_t layer_;
};

class Puller {
 public:
  Puller(const Store& store, Repository& repository, const PullOptions& options, Progress& progress)
      : store_(store), repository_(repository), options_(options), progress_(progress) {}

  Result<PulledImage> run(const std::string& wanted) {
    MSB_ASSIGN(Repository::Document document, repository_.manifest(wanted));
    MSB_ASSIGN(Manifest manifest, parse_manifest(document.text, document.media_type));
    for (int depth = 0; manifest.kind == Manifest::Kind::kIndex; ++depth) {
      if (depth == kMaxIndexDepth)
        return make_error(Errc::kLimit, "indexes are nested deeper than %d", kMaxIndexDepth);
      const Descriptor* chosen = choose_platform(manifest, options_.platform);
      if (chosen == nullptr)
        return make_error(Errc::kNotFound, "there is no image for %s; there are: %s",
                          options_.platform.text().c_str(), offered_platforms(manifest).c_str());
      const Descriptor entry = *chosen;
      MSB_ASSIGN(document, repository_.manifest(entry.digest));
      MSB_ASSIGN(manifest, parse_manifest(document.text, entry.media_type));
    }
    PulledImage result;
    result.manifest_digest = document.digest;
    if (store_.has("manifests/" + digest_hex(document.digest) + ".json")) return result;

    Image image;
    image.manifest_digest = document.digest;
    image.manifest = document.text;
    image.config_digest = manifest.config.digest;
    MSB_ASSIGN(image.raw_config, repository_.blob_text(manifest.config, kMaxConfigBytes));
    auto config = parse_image_config(image.raw_config);
    if (!config) return std::move(config).error().with_context("config " + image.config_digest);
    image.config = std::move(config).value();
    if (manifest.layers.size() > options_.stage.limits.max_layers)
      return make_error(Errc::kLimit, "an image with more than %u layers", options_.stage.limits.max_layers);
    if (image.config.diff_ids.size() != manifest.layers.size())
      return make_error(Errc::kProtocol, "the config names %zu layers, the manifest %zu",
                        image.config.diff_ids.size(), manifest.layers.size());
    for (std::size_t i = 0; i < manifest.layers.size(); ++i) {
      const Descriptor& layer = manifest.layers[i];
      image.layers.push_back({image.config.diff_ids[i], layer.digest, layer.media_type, layer.size});
    }
    MSB_TRY(fetch_layers(manifest.layers, image.config.diff_ids));
    MSB_TRY(publish_image(store_, image, options_.stage.limits));
    result.fetched = true;
    return result;
  }

 private:
  Status fetch_layers(const std::vector<Descriptor>& layers, const std::vector<std::string>& diff_ids) {
    std::vector<std::size_t> numbers;
    for (const Descriptor& layer : layers)
      numbers.push_back(progress_.add(digest_hex(layer.digest).substr(0, kShownDigits), layer.size));
    std::atomic<std::size_t> next{0};
    std::atomic<bool> failed{false};
    std::mutex mutex;
    Status first;  // guarded by mutex
    const auto work = [&] {
      for (;;) {
        const std::size_t i = next.fetch_add(1);
        if (i >= layers.size() || failed) return;
        Status status = fetch_layer(layers[i], diff_ids[i], numbers[i]);
        if (status.ok()) continue;
        const std::lock_guard lock(mutex);
        if (!failed.exchange(true)) first = std::move(status).with_context("layer " + layers[i].digest);
      }
    };
    std::vector<std::thread> threads;
    const std::size_t count = std::min<std::size_t>(std::max(options_.parallel, 1U), layers.size());
    for (std::size_t i = 0; i < count; ++i) threads.emplace_back(work);
    for (std::thread& thread : threads) thread.join();
    return first;
  }

  Status fetch_layer(const Descriptor& layer, const std::string& diff_id, std::size_t number) {
    const std::string hex = digest_hex(diff_id);
    MSB_ASSIGN(const UniqueFd lock, store_.lock_name("fetch-" + hex));
    if (store_.has(layer_path(hex))) {
      progress_.finish(number, "already there");
      return {};
    }
    const std::string blob_hex = digest_hex(layer.digest);
    const UniqueFd partial = layer.size >= kWorthKeeping ? store_.open_partial(blob_hex) : UniqueFd();
    struct stat before {};
    const bool resumed = partial && ::fstat(partial.get(), &before) == 0 && before.st_size > 0;
    auto staged = stage_blob(layer, hex, number, partial.get());
    if (!staged && resumed && staged.error().code == Errc::kProtocol) {
      // Perhaps it is the beginning that is damaged (a crash of the host leaves such): once more without it.
      if (::ftruncate(partial.get(), 0) != 0) return sys_error("empty the kept part of a layer");
      staged = stage_blob(layer, hex, number, partial.get());
    }
    if (!staged) return staged.error();
    const LayerSummary& summary = *staged;
    if (partial) MSB_TRY(store_.remove(partial_path(blob_hex)));
    if (summary.dropped_xattrs > 0)
      MSB_INFO("layer %s: %llu extended attributes that no filesystem here can hold were dropped",
               diff_id.c_str(), static_cast<unsigned long long>(summary.dropped_xattrs));
    progress_.finish(number, "done");
    return {};
  }

  Result<LayerSummary> stage_blob(const Descriptor& layer, const std::string& diff_id_hex, std::size_t number,
                                  int partial_fd) {
    MSB_ASSIGN(const auto blob, repository_.blob(layer, partial_fd));
    CountedStream counted(*blob, progress_, number);
    return stage_layer(store_, counted, diff_id_hex, options_.stage);
  }

  const Store& store_;
  Repository& repository_;
  const PullOptions& options_;
  Progress& progress_;
};

}  // namespace

Result<std::vector<PullSource>> pull_sources(const std::string& home, const RegistryConfig& config,
                                             const ImageReference& reference) {
  std::vector<PullSource> sources;
  for (Endpoint& endpoint : endpoints_of(config, reference.registry, reference.repository)) {
    MSB_ASSIGN(auto credentials, find_credentials(home, endpoint.host, reference.repository));
    sources.push_back({std::move(endpoint), std::move(credentials)});
  }
  return sources;
}

Result<PulledImage> pull_image(const Store& store, const ImageReference& reference,
                               const std::vector<PullSource>& sources, const PullOptions& options,
                               Progress& progress) {
  const std::string wanted = reference.digest.empty() ? reference.tag : reference.digest;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    // A mirror that is down is left soon: there is another place to ask.
    const bool last = i + 1 == sources.size();
    Repository repository(sources[i].endpoint, reference.repository, sources[i].credentials,
                          last ? options.retries : std::min(options.retries, 1));
    Puller puller(store, repository, options, progress);
    auto pulled = puller.run(wanted);
    if (pulled) {
      MSB_TRY(publish_reference(store, reference, pulled->manifest_digest));
      return pulled;
    }
    // The store's own trouble is no mirror's fault.
    const Errc code = pulled.error().code;
    if (last || code == Errc::kNoSpace || code == Errc::kSystem) return pulled;
    progress.say("mirror " + sources[i].endpoint.host + ": " + pulled.error().text);
  }
  return make_error(Errc::kInternal, "no registry to ask");
}

}  // namespace msb::oci
