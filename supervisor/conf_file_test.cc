// SPDX-License-Identifier: Apache-2.0
#include "supervisor/conf_file.h"

#include <gtest/gtest.h>

namespace msb::supervisor {
namespace {

const char* fake_getenv(const char* name) { return std::string_view(name) == "TAG" ? "12" : nullptr; }

Result<SandboxSpec> load(std::string text) {
  return spec_from_conf({{"/conf/a.yaml", std::move(text)}}, fake_getenv);
}

TEST(Conf, ReadsYaml) {
  const auto spec = load(R"(
image: debian:${TAG}
memory: 1.5G        # comment
cpus: 2
env:
  A: "1"
  B: $${HOME}
cmd: [echo, "hi there"]
mounts:
  - ./src:/src:ro
  - {tmpfs: {size: 64M}, target: /scratch}
  - bind: data
    target: /data
scripts:
  hello: |
    #!/bin/sh
    echo hi
ephemeral: true
workdir: ~
)");
  ASSERT_TRUE(spec.ok()) << spec.error().text;
  EXPECT_EQ(spec->image, "debian:12");
  EXPECT_EQ(spec->memory_mib, 1536U);
  EXPECT_EQ(spec->env, (std::vector<std::string>{"A=1", "B=${HOME}"}));
  EXPECT_EQ(spec->mounts[0].source, "/conf/./src");
  EXPECT_EQ(spec->mounts[1].size_mib, 64U);
  EXPECT_EQ(spec->mounts[2].source, "/conf/data");
  EXPECT_EQ(spec->scripts[0].body, "#!/bin/sh\necho hi\n");
  EXPECT_TRUE(spec->ephemeral);
}

TEST(Conf, ReadsJson) {
  const auto spec = load(R"({"image": "x", "env": ["A=1"], "ports": ["8080:80"]})");
  ASSERT_TRUE(spec.ok()) << spec.error().text;
  EXPECT_EQ(spec->network.ports[0].host, 8080);
}

TEST(Conf, ErrorsSayWhere) {
  const std::pair<const char*, const char*> cases[] = {
      {"image: x\nbogus: 1\n", "/conf/a.yaml:2:8: bogus: unknown key"},
      {"image: x\nmounts:\n  - {tmpfs: {}, target: 1}\n",
       "/conf/a.yaml:3:25: mounts[0].target: must be a string"},
      {"image: x\nimage: y\n", "/conf/a.yaml:2:1: the key \"image\" is given twice"},
      {"image: ${UNSET}\n", "the environment variable UNSET is not set"},
      {"image: ${\n", "without a name"},
      {"image: &a x\n", "anchors are not allowed"},
      {"image: x\ncmd: *a\n", "aliases are not allowed"},
      {"image: !!str x\n", "tags are not allowed"},
      {"<<: {image: x}\n", "merge keys"},
      {"image: x\n---\nimage: y\n", "only one document"},
      {"", "the file is empty"},
      {"- a\n", "must be a mapping"},
      {"image: [\n", "/conf/a.yaml:2:1"},
      {"ephemeral: yes\n", "must be true or false"},
      {"memory: lots\n", "/conf/a.yaml:1:9: memory: invalid size"},
      {"image: \xff\n", "not UTF-8"},
  };
  for (const auto& [text, wanted] : cases) {
    const auto spec = load(text);
    ASSERT_FALSE(spec.ok()) << text;
    EXPECT_NE(spec.error().text.find(wanted), std::string::npos) << text << " -> " << spec.error().text;
  }
}

TEST(Conf, DeepNestingIsRefused) {
  EXPECT_FALSE(load("cmd: " + std::string(10'000, '[')).ok());
  EXPECT_FALSE(load("network: {policy: " + std::string(40, '[') + std::string(40, ']') + "}").ok());
}

TEST(Conf, LaterFilesWin) {
  const auto spec = spec_from_conf(
      {{"a.yaml", "image: x\nenv: {A: '1', B: '2'}\ncmd: [a, b]\n"}, {"b.yaml", "env: {B: '3'}\ncmd: [c]\n"}},
      nullptr);
  ASSERT_TRUE(spec.ok()) << spec.error().text;
  EXPECT_EQ(spec->env, (std::vector<std::string>{"A=1", "B=3"}));
  EXPECT_EQ(*spec->cmd, (std::vector<std::string>{"c"}));
  EXPECT_EQ(spec->image, "x");
}

TEST(Conf, SpecJsonReadsBack) {
  SandboxSpec spec;
  spec.image = "x";
  spec.env = {"A=b"};
  spec.scripts = {{"s", "line\n\ttab \"q\""}};
  const auto back = load(spec_to_json(spec, true));
  ASSERT_TRUE(back.ok()) << back.error().text;
  EXPECT_EQ(*back, spec);
}

}  // namespace
}  // namespace msb::supervisor
