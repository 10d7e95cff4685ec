// Remembers the tokens of words: text repeats its words, and a look-up is many times as fast as merging.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "merges.hpp"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the first byte of a word must be the lowest of a number"
#endif

namespace bpe {

constexpr Token kLargestToken = (1 << 28) - 1;

// A word of fewer than 16 bytes as a number: its bytes, zeros, and its length in the last byte. Never zero.
class Key {
 public:
  static constexpr std::size_t kLongest = 15;

  Key() = default;

  // `readable` is how many bytes may be read from where the word begins.
  Key(std::string_view word, std::size_t readable) {
    if (readable >= 16) {
      std::memcpy(&low_, word.data(), 8);
      std::memcpy(&high_, word.data() + 8, 8);
      low_ &= kFirstBytes[std::min<std::size_t>(word.size(), 8)];
      high_ &= word.size() > 8 ? kFirstBytes[word.size() - 8] : 0;
    } else {
      char bytes[16] = {};
      std::memcpy(bytes, word.data(), word.size());
      std::memcpy(&low_, bytes, 8);
      std::memcpy(&high_, bytes + 8, 8);
    }
    high_ |= static_cast<std::uint64_t>(word.size()) << 56;
  }

  bool operator==(const Key& other) const { return ((low_ ^ other.low_) | (high_ ^ other.high_)) == 0; }

  std::uint64_t hash() const {
    const std::uint64_t mixed = (low_ ^ (high_ * 0x9E3779B97F4A7C15ull)) * 0xD6E8FEB86659FD93ull;
    return (mixed ^ mixed >> 32) * 0xD6E8FEB86659FD93ull;
  }

 private:
  static constexpr std::uint64_t kFirstBytes[] = {
      0, 0xFF, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF, 0xFFFFFFFFFF, 0xFFFFFFFFFFFF, 0xFFFFFFFFFFFFFF, ~0ull};

  std::uint64_t low_ = 0, high_ = 0;
};

class Cache {
 public:
  // Has room for 2 << `bits` words; a third word for one place drives out the older.
  explicit Cache(int bits) : shift_(64 - bits), places_(std::size_t{1} << bits) {}

  struct Entry {
    Key key;
    Token tokens[4];  // the first holds their number too
  };

  struct alignas(64) Place {
    Entry entries[2];  // the newer, the older
  };

  // The place of a word, on its way to the processor.
  Place& place(const Key& key) {
    Place& place = places_[key.hash() >> shift_];
    __builtin_prefetch(&place);
    return place;
  }

  // Appends the tokens of a word, which `make` appends where they are not known; writes at most 4 past `out`.
  template <typename Make>
  static Token* append(Place& place, const Key& key, Token* out, Make make) {
    // Which of the two it is cannot be foretold, so there is no branch.
    const Entry& entry = place.entries[place.entries[1].key == key];
    if (entry.key == key) {
      std::memcpy(out, entry.tokens, sizeof entry.tokens);
      out[0] &= kLargestToken;
      return out + (entry.tokens[0] >> kCountShift);
    }
    Token* end = make(out);
    if (const std::size_t count = end - out; count <= 4) {
      place.entries[1] = place.entries[0];
      place.entries[0].key = key;
      std::memcpy(place.entries[0].tokens, out, count * sizeof(Token));
      place.entries[0].tokens[0] |= static_cast<Token>(count) << kCountShift;
    }
    return end;
  }

 private:
  static constexpr int kCountShift = 28;  // above any token

  int shift_;
  std::vector<Place> places_;
};

}  // namespace bpe
