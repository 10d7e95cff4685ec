// Byte-pair encoding of one word: of all neighbours, the pair of the lowest rank is joined, the leftmost first, until
// none can be joined.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <queue>
#include <string_view>
#include <vector>

namespace bpe {

using Token = std::int32_t;

struct Merge {
  Token left, right, joined;
};

class Merges {
 public:
  // `byte_tokens` has the token of each byte; of `merges` the first has the lowest rank.
  Merges(const Token* byte_tokens, const Merge* merges, std::size_t count) : perhaps_(kFilter / 64), of_bytes_(256 * 256) {
    std::size_t capacity = 16;
    while (capacity < count + count / 2) capacity *= 2;
    mask_ = capacity - 1;
    slots_.resize(capacity);
    for (std::size_t rank = 0; rank < count; ++rank) {
      const Merge& merge = merges[rank];
      const std::uint64_t pair = key(merge.left, merge.right), hash = mixed(pair);
      slots_[find(pair, hash)] = {pair, rank << 32 | static_cast<std::uint32_t>(merge.joined)};
      perhaps_[hash / 64 % (kFilter / 64)] |= 1ull << hash % 64;
    }
    std::copy(byte_tokens, byte_tokens + 256, byte_tokens_);
    for (std::size_t pair = 0; pair < of_bytes_.size(); ++pair)
      of_bytes_[pair] = join(byte_tokens_[pair >> 8], byte_tokens_[pair & 0xFF]);
  }

  // Appends the tokens of `word`, at most one a byte, to `out`.
  Token* encode(std::string_view word, Token* out) const {
    return word.size() <= kShort ? encode_short(word, out) : encode_long(word, out);
  }

 private:
  static constexpr std::size_t kShort = 64;
  static constexpr std::uint64_t kNone = ~0ull;
  static constexpr std::size_t kFilter = 1 << 22;

  // Rank above the joined token.
  using Join = std::uint64_t;

  struct Slot {
    std::uint64_t pair = kNone;
    Join join = kNone;
  };

  static std::uint64_t key(Token left, Token right) {
    return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right);
  }

  static std::uint64_t mixed(std::uint64_t pair) { return pair * 0x9E3779B97F4A7C15ull >> 32; }

  // Where the pair is, or where it would be.
  std::size_t find(std::uint64_t pair, std::uint64_t hash) const {
    std::size_t i = hash & mask_;
    while (slots_[i].pair != pair && slots_[i].pair != kNone) i = (i + 1) & mask_;
    return i;
  }

  Join join(Token left, Token right) const {
    const std::uint64_t pair = key(left, right), hash = mixed(pair);
    if (!(perhaps_[hash / 64 % (kFilter / 64)] >> hash % 64 & 1)) return kNone;
    return slots_[find(pair, hash)].join;
  }

  // Looks at all pairs for each join, which for short words is the fastest.
  Token* encode_short(std::string_view word, Token* tokens) const {
    const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(word[i]); };
    Join joins[kShort];
    std::size_t count = word.size();
    for (std::size_t i = 0; i < count; ++i) tokens[i] = byte_tokens_[byte(i)];
    for (std::size_t i = 0; i + 1 < count; ++i) joins[i] = of_bytes_[byte(i) << 8 | byte(i + 1)];
    while (count > 1) {
      std::size_t best = 0;
      for (std::size_t i = 1; i + 1 < count; ++i)
        if (joins[i] < joins[best]) best = i;
      if (joins[best] == kNone) break;
      tokens[best] = static_cast<Token>(joins[best]);
      --count;
      for (std::size_t i = best + 1; i < count; ++i) tokens[i] = tokens[i + 1];
      for (std::size_t i = best; i + 1 < count; ++i) joins[i] = joins[i + 1];
      if (best > 0) joins[best - 1] = join(tokens[best - 1], tokens[best]);
      if (best + 1 < count) joins[best] = join(tokens[best], tokens[best + 1]);
    }
    return tokens + count;
  }

  // Keeps the pairs in a heap, so that a word may be megabytes long.
  Token* encode_long(std::string_view word, Token* out) const {
    struct Node {
      Token token;
      std::size_t before, after;
    };
    struct Pair {
      Join join;
      std::size_t at;
      Token left, right;
      bool operator<(const Pair& other) const { return join != other.join ? join > other.join : at > other.at; }
    };
    const std::size_t size = word.size();
    constexpr Token kGone = -1;
    std::vector<Node> nodes(size);
    std::priority_queue<Pair> pairs;
    const auto consider = [&](std::size_t left, std::size_t right) {
      const Join found = join(nodes[left].token, nodes[right].token);
      if (found != kNone) pairs.push({found, left, nodes[left].token, nodes[right].token});
    };
    for (std::size_t i = 0; i < size; ++i) nodes[i] = {byte_tokens_[static_cast<std::uint8_t>(word[i])], i - 1, i + 1};
    for (std::size_t i = 0; i + 1 < size; ++i) consider(i, i + 1);
    while (!pairs.empty()) {
      const Pair pair = pairs.top();
      pairs.pop();
      Node& left = nodes[pair.at];
      if (left.token != pair.left || left.after == size || nodes[left.after].token != pair.right) continue;
      nodes[left.after].token = kGone;
      left.token = static_cast<Token>(pair.join);
      left.after = nodes[left.after].after;
      if (left.after < size) {
        nodes[left.after].before = pair.at;
        consider(pair.at, left.after);
      }
      if (pair.at > 0) consider(left.before, pair.at);
    }
    for (std::size_t i = 0; i < size; i = nodes[i].after) *out++ = nodes[i].token;
    return out;
  }

  Token byte_tokens_[256];
  std::vector<std::uint64_t> perhaps_;
  std::vector<Join> of_bytes_;
  std::vector<Slot> slots_;
  std::size_t mask_;
};

}  // namespace bpe
