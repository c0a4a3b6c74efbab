// SPDX-License-Identifier: Apache-2.0
#include "supervisor/grammar.h"

#include <gtest/gtest.h>

namespace msb::supervisor {
namespace {

const char* fake_getenv(const char* name) { return std::string_view(name) == "SET" ? "value" : nullptr; }

TEST(Env, TakesFromTheHostOnlyWhenAsked) {
  EXPECT_EQ(*parse_env("A=b=c", fake_getenv), "A=b=c");
  EXPECT_EQ(*parse_env("A=", fake_getenv), "A=");
  EXPECT_EQ(*parse_env("SET", fake_getenv), "SET=value");
  EXPECT_FALSE(parse_env("UNSET", fake_getenv).ok());
  EXPECT_FALSE(parse_env("=x", fake_getenv).ok());
  EXPECT_FALSE(parse_env("", fake_getenv).ok());
}

TEST(Env, FileSkipsCommentsAndNamesTheLine) {
  const auto list = parse_env_file("# note\n\nA=1\r\n  B=two words \nSET", fake_getenv);
  ASSERT_TRUE(list.ok());
  EXPECT_EQ(*list, (std::vector<std::string>{"A=1", "B=two words ", "SET=value"}));
  const auto bad = parse_env_file("A=1\nUNSET\n", fake_getenv);
  ASSERT_FALSE(bad.ok());
  EXPECT_NE(bad.error().text.find("line 2"), std::string::npos);
}

TEST(LabelGrammar, SplitsAndReserves) {
  EXPECT_EQ(*parse_label("a=b"), (Label{"a", "b"}));
  EXPECT_EQ(*parse_label("a"), (Label{"a", ""}));
  EXPECT_EQ(*parse_label("a=b=c"), (Label{"a", "b=c"}));
  for (const char* text : {"", "=b", "msb.x=1", "sandbox.y", "a=\n"})
    EXPECT_FALSE(parse_label(text).ok()) << text;
}

TEST(RlimitGrammar, ReadsLimits) {
  EXPECT_EQ(*parse_rlimit("nofile=1024"), (Rlimit{"nofile", 1024, 1024}));
  EXPECT_EQ(*parse_rlimit("NOFILE=1:2"), (Rlimit{"nofile", 1, 2}));
  EXPECT_EQ(*parse_rlimit("memlock=unlimited"), (Rlimit{"memlock", kRlimitUnlimited, kRlimitUnlimited}));
  EXPECT_EQ(*parse_rlimit("as=2G"), (Rlimit{"as", 2147483648, 2147483648}));
  EXPECT_EQ(*parse_rlimit("core=0"), (Rlimit{"core", 0, 0}));
  for (const char* text : {"", "nofile", "nofile=", "bogus=1", "nofile=2:1", "nofile=1:2:3", "nofile=x"}) {
    EXPECT_FALSE(parse_rlimit(text).ok()) << text;
  }
}

TEST(PortGrammar, ReadsEveryForm) {
  EXPECT_EQ(*parse_port("8080:80"), (PortMapping{"127.0.0.1", 8080, 80, false}));
  EXPECT_EQ(*parse_port("80"), (PortMapping{"127.0.0.1", 0, 80, false}));
  EXPECT_EQ(*parse_port("0.0.0.0:53:53/udp"), (PortMapping{"0.0.0.0", 53, 53, true}));
  EXPECT_EQ(*parse_port("[::1]:8080:80/tcp"), (PortMapping{"::1", 8080, 80, false}));
  for (const char* text :
       {"", ":", "0", "1:0", "65536:1", "1:65536", "x:1:1", "1:1/sctp", "::1:80:80:", "1-2:1-2"}) {
    EXPECT_FALSE(parse_port(text).ok()) << text;
  }
  for (const char* text : {"8080:80", "[::1]:1:2/udp", "10.0.0.1:0:7"}) {
    EXPECT_EQ(*parse_port(format_port(*parse_port(text))), *parse_port(text));
  }
}

TEST(MountGrammar, ReadsTmpfsAndVolumes) {
  const auto tmpfs = parse_tmpfs("/scratch:64M,noexec,ro");
  ASSERT_TRUE(tmpfs.ok());
  EXPECT_EQ(tmpfs->size_mib, 64U);
  EXPECT_TRUE(tmpfs->noexec && tmpfs->readonly && !tmpfs->nodev);
  EXPECT_EQ(parse_tmpfs("/t:noexec")->size_mib, 0U);
  EXPECT_EQ(parse_tmpfs("/t:size=2G")->size_mib, 2048U);
  EXPECT_FALSE(parse_tmpfs("t").ok());
  EXPECT_FALSE(parse_tmpfs("/t:64M,bogus").ok());
  const auto bind = parse_volume("./src:/src:ro");
  ASSERT_TRUE(bind.ok());
  EXPECT_EQ(bind->kind, Mount::Kind::kBind);
  EXPECT_TRUE(bind->readonly);
  EXPECT_EQ(parse_volume("data:/data")->kind, Mount::Kind::kVolume);
  for (const char* text : {"", "a", ":/x", "a:b", "a:/x:bogus", "/a:/../b", "a:/x:ro,rw"}) {
    EXPECT_FALSE(parse_volume(text).ok()) << text;
  }
}

TEST(DetachKeys, ReadsControlAndPlain) {
  EXPECT_EQ(*parse_detach_keys("ctrl-p,ctrl-q"), "\x10\x11");
  EXPECT_EQ(*parse_detach_keys("ctrl-]"), "\x1d");
  EXPECT_EQ(*parse_detach_keys("ctrl-\\"), "\x1c");
  EXPECT_EQ(*parse_detach_keys("a,b"), "ab");
  EXPECT_EQ(*parse_detach_keys(""), "");
  EXPECT_EQ(*parse_detach_keys(","), ",");
  for (const char* text : {"ctrl-", "ctrl-1", "esc", "ctrl-ab"})
    EXPECT_FALSE(parse_detach_keys(text).ok()) << text;
}

TEST(ScriptGrammar, Escapes) {
  EXPECT_EQ(parse_script("hi=#!/bin/sh\\necho \\q", true)->body, "#!/bin/sh\necho \\q");
  EXPECT_EQ(parse_script("hi=a\\n", false)->body, "a\\n");
  EXPECT_FALSE(parse_script("nope", true).ok());
  EXPECT_FALSE(parse_script("a/b=x", true).ok());
}

TEST(RootDiskGrammar, ReadsBothKinds) {
  EXPECT_EQ(parse_root_disk("10G")->size_mib, 10240U);
  EXPECT_EQ(parse_root_disk("tmpfs")->kind, RootDisk::Kind::kTmpfs);
  EXPECT_EQ(parse_root_disk("tmpfs:1G")->size_mib, 1024U);
  EXPECT_FALSE(parse_root_disk("tmpfsx").ok());
}

TEST(HostSocketGrammar, PathAndPort) {
  EXPECT_EQ(parse_host_socket("/run/agent.sock:5000").value(), (HostSocket{"/run/agent.sock", 5000}));
  EXPECT_EQ(parse_host_socket("relative:2/stream").value(), (HostSocket{"relative", 2}));
  EXPECT_EQ(parse_host_socket("/run/a:b:4294967294").value(), (HostSocket{"/run/a:b", 4294967294U}));
  EXPECT_EQ(format_host_socket({"/run/a:b", 7}), "/run/a:b:7");
  for (const char* bad : {"", "/run/agent.sock", ":5000", "/run/:5000", "/run/a:", "/run/a:0", "/run/a:1",
                          "/run/a:x", "/run/a:-1", "/run/a:4294967295", "/run/a:99999999999999999999",
                          "/run/a:5000/dgram", "/run/a:5000/tcp"}) {
    EXPECT_FALSE(parse_host_socket(bad)) << bad;
  }
}

}  // namespace
}  // namespace msb::supervisor
