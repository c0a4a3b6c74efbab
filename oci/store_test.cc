// SPDX-License-Identifier: Apache-2.0
#include "oci/store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/file.h"
#include "base/sha256.h"
#include "oci/catalog.h"
#include "oci/collect.h"
#include "oci/digest.h"
#include "oci/image.h"
#include "oci/layer_stage.h"
#include "oci/save.h"
#include "oci/testing/tar_builder.h"

namespace msb::oci {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    home_ = ::testing::TempDir() + "msb-store.XXXXXX";
    ASSERT_NE(::mkdtemp(home_.data()), nullptr);
    auto store = Store::open(home_);
    ASSERT_TRUE(store.ok()) << store.error().text;
    store_.emplace(std::move(store).value());
  }
  void TearDown() override { EXPECT_TRUE(remove_tree(AT_FDCWD, home_).ok()); }

  // An image of one layer with one file, under the name `reference`; its manifest digest.
  std::string add_image(const std::string& content, const char* reference) {
    const std::string tar = testing::TarBuilder().add({.name = "f", .data = content}).end();
    MemorySource source(as_bytes(tar));
    SourceStream stream(source);
    const auto layer = stage_layer(*store_, stream, "", {});
    EXPECT_TRUE(layer.ok()) << layer.error().text;
    Image image;
    image.raw_config = R"({"rootfs":{"diff_ids":["sha256:)" + layer->diff_id_hex + R"("]}})";
    image.config = *parse_image_config(image.raw_config);
    image.config_digest = digest_of(as_bytes(image.raw_config));
    image.layers = {{"sha256:" + layer->diff_id_hex, "sha256:" + layer->diff_id_hex, "tar", tar.size()}};
    image.manifest = make_manifest(image.config_digest, image.raw_config.size(), image.layers);
    image.manifest_digest = digest_of(as_bytes(image.manifest));
    EXPECT_TRUE(publish_image(*store_, image, {}).ok());
    EXPECT_TRUE(publish_reference(*store_, *parse_image_reference(reference), image.manifest_digest).ok());
    return image.manifest_digest;
  }

  std::string home_;
  std::optional<Store> store_;
};

TEST_F(StoreTest, SweepsWhatNobodyHolds) {
  auto held = store_->make_temp();
  ASSERT_TRUE(held.ok());
  ASSERT_TRUE(open_file(home_ + "/images/tmp/orphan", O_WRONLY | O_CREAT).ok());
  store_->sweep_temp();
  EXPECT_THAT(*store_->list("tmp"), SizeIs(1));
  held = make_error(Errc::kCancelled, "dropped");
  EXPECT_THAT(*store_->list("tmp"), IsEmpty());
}

TEST_F(StoreTest, PublishesWholeFilesOnly) {
  ASSERT_TRUE(store_->put("blobs", "name", "content").ok());
  EXPECT_EQ(*store_->get("blobs/name", 100), "content");
  EXPECT_EQ(store_->get("blobs/name", 3).error().code, Errc::kLimit);
  EXPECT_THAT(*store_->list("tmp"), IsEmpty());
  EXPECT_THAT(*store_->list("blobs"), ElementsAre("name"));
}

TEST_F(StoreTest, CollectorsAndAddersExcludeEachOther) {
  auto adding = store_->lock(Store::Access::kAdd, true);
  ASSERT_TRUE(adding.ok());
  EXPECT_TRUE(store_->lock(Store::Access::kAdd, false).ok());
  EXPECT_EQ(store_->lock(Store::Access::kCollect, false).error().code, Errc::kBusy);
  adding->reset();
  const auto collecting = store_->lock(Store::Access::kCollect, false);
  ASSERT_TRUE(collecting.ok());
  EXPECT_EQ(store_->lock(Store::Access::kAdd, false).error().code, Errc::kBusy);
}

TEST_F(StoreTest, FindsImagesByNameAndByBeginningOfTheirDigests) {
  const std::string first = add_image("one", "a:1");
  add_image("two", "b:1");
  const auto catalog = read_catalog(*store_);
  ASSERT_TRUE(catalog.ok());
  EXPECT_EQ((*find_image(*catalog, "a:1"))->manifest_digest, first);
  EXPECT_EQ((*find_image(*catalog, first))->manifest_digest, first);
  EXPECT_EQ((*find_image(*catalog, first.substr(7, 12)))->manifest_digest, first);
  EXPECT_EQ(find_image(*catalog, first.substr(7, 3)).error().code, Errc::kNotFound);
  EXPECT_EQ(find_image(*catalog, "a:2").error().code, Errc::kNotFound);
  EXPECT_EQ(find_image(*catalog, "A B").error().code, Errc::kInvalid);
}

TEST_F(StoreTest, RemovalKeepsWhatOthersShare) {
  const std::string first = add_image("same", "a:1");
  ASSERT_EQ(add_image("same", "b:1"), first);
  add_image("other", "c:1");
  auto catalog = read_catalog(*store_);
  auto removal = plan_removal(*store_, *catalog, "a:1");
  ASSERT_TRUE(removal.ok());
  EXPECT_THAT(removal->images, IsEmpty());
  ASSERT_TRUE(carry_out(*store_, *removal).ok());
  catalog = read_catalog(*store_);
  removal = plan_removal(*store_, *catalog, "b:1");
  ASSERT_TRUE(removal.ok());
  EXPECT_THAT(removal->images, ElementsAre(first));
  ASSERT_TRUE(carry_out(*store_, *removal).ok());
  catalog = read_catalog(*store_);
  ASSERT_THAT(catalog->images, SizeIs(1));
  for (const auto& layer : catalog->images.begin()->second.layers)
    EXPECT_TRUE(verify_layer(*store_, layer.diff_id, {}).ok());
  EXPECT_THAT(*store_->list("layers"), SizeIs(2));
}

TEST_F(StoreTest, PruneRefusesToGuessWhatADamagedRecordNeeds) {
  const std::string digest = add_image("one", "a:1");
  ASSERT_TRUE(store_->put("manifests", digest_hex(digest) + ".json", "{").ok());
  const auto catalog = read_catalog(*store_);
  ASSERT_TRUE(catalog.ok());
  EXPECT_THAT(catalog->damaged, SizeIs(1));
  EXPECT_EQ(plan_prune(*store_, *catalog, {.all = true}).error().code, Errc::kCorrupt);
}

TEST_F(StoreTest, VerifyNoticesAChangedByte) {
  add_image(std::string(5000, 'x'), "a:1");
  const auto catalog = read_catalog(*store_);
  const std::string id = catalog->images.begin()->second.layers[0].diff_id;
  EXPECT_TRUE(verify_layer(*store_, id, {}).ok());
  const auto blob = open_at(store_->images_fd(), layer_path(digest_hex(id)), O_RDWR);
  ASSERT_TRUE(pwrite_exact(blob->get(), as_bytes(std::string_view("y")), 4096 + 1000).ok());
  EXPECT_THAT(verify_layer(*store_, id, {}).error().text, HasSubstr("its content has changed"));
}

TEST_F(StoreTest, RecordsThatLeadOutsideAreRefused) {
  const std::string digest = "sha256:" + std::string(64, 'a');
  const auto record = [&](const char* path) {
    return parse_image_record(R"({"manifest_digest":")" + digest + R"(","config_digest":")" + digest +
                              R"(","layers":[],"root":{"extents":[{"path":")" + path + R"("}]}})");
  };
  EXPECT_TRUE(record("images/layers/x").ok());
  EXPECT_FALSE(record("images/../../etc/passwd").ok());
  EXPECT_FALSE(record("/etc/passwd").ok());
}

}  // namespace
}  // namespace msb::oci
