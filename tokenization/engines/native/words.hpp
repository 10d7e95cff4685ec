// Splits text into words, as this regular expression of Llama-3 and Qwen does (Qwen has \p{N} alone):
//
//   (?i:'s|'t|'re|'ve|'m|'ll|'d) | [^\r\n\p{L}\p{N}]?\p{L}+ | \p{N}{1,3} | ?[^\s\p{L}\p{N}]+[\r\n]* |
//   \s*[\r\n]+ | \s+(?!\S) | \s+
//
// Each alternative is a function below. What a character is, the table of the reference says, not this file.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace bpe {

enum Kind : std::uint8_t { kOther, kLetter, kNumber, kSpace, kNewline, kEnd };

// Beside its Kind: a text with such a character may not be in normal form C.
constexpr std::uint8_t kPerhapsNotNormal = 0x80;

constexpr std::size_t kCodePoints = 0x110000;

class Splitter {
 public:
  // `kinds` has a Kind for each code point; `digits` is how many numbers make one word at most.
  Splitter(const std::uint8_t* kinds, int digits) : kinds_(kinds), digits_(digits) {}

  // Length in bytes of the word that `text`, valid UTF-8 and not empty, begins with.
  std::size_t first_word(std::string_view text) const { return Scan{*this, text}.word(); }

  bool perhaps_not_normal(std::string_view text) const {
    const Scan scan{*this, text};
    for (std::size_t i = 0; i < text.size();) {
      const CodePoint next = scan.code_point(i);
      if (kinds_[next.value] & kPerhapsNotNormal) return true;
      i += next.size;
    }
    return false;
  }

 private:
  struct CodePoint {
    std::uint32_t value;
    std::size_t size;
  };

  struct Char {
    Kind kind;
    std::size_t size;
  };

  struct Scan {
    const Splitter& splitter;
    std::string_view text;

    std::size_t word() const {
      const Char first = at(0);
      switch (first.kind) {
        case kLetter:
          return letters(first.size);
        case kNumber:
          return numbers();
        case kOther:
          if (const std::size_t size = contraction()) return size;
          return symbol(first.size);
        default:
          return white(first);
      }
    }

    CodePoint code_point(std::size_t i) const {
      const auto byte = [&](std::size_t k) { return static_cast<std::uint32_t>(static_cast<std::uint8_t>(text[i + k])); };
      const auto rest = [&](std::size_t k) { return byte(k) & 0x3F; };
      const std::uint32_t lead = byte(0);
      if (lead < 0x80) return {lead, 1};
      if (lead < 0xE0) return {(lead & 0x1F) << 6 | rest(1), 2};
      if (lead < 0xF0) return {(lead & 0x0F) << 12 | rest(1) << 6 | rest(2), 3};
      return {(lead & 0x07) << 18 | rest(1) << 12 | rest(2) << 6 | rest(3), 4};
    }

    Char at(std::size_t i) const {
      if (i >= text.size()) return {kEnd, 0};
      const CodePoint next = code_point(i);
      return {static_cast<Kind>(splitter.kinds_[next.value] & ~kPerhapsNotNormal), next.size};
    }

    std::size_t run(std::size_t i, Kind kind) const {
      for (Char next = at(i); next.kind == kind; next = at(i)) i += next.size;
      return i;
    }

    // Eight bytes at once; that A to Z and a to z are letters needs no table.
    std::size_t letters(std::size_t i) const {
      constexpr std::uint64_t kOnes = 0x0101010101010101, kHigh = 0x80 * kOnes;
      for (; i + 8 <= text.size(); i += 8) {
        std::uint64_t bytes;
        std::memcpy(&bytes, text.data() + i, 8);
        const std::uint64_t lower = (bytes | 0x20 * kOnes) & ~kHigh;
        const std::uint64_t from_a = lower + (0x80 - 'a') * kOnes, past_z = lower + (0x7F - 'z') * kOnes;
        const std::uint64_t others = ~(from_a & ~past_z & ~bytes) & kHigh;
        if (others == 0) continue;
        i += static_cast<std::size_t>(__builtin_ctzll(others)) / 8;
        return static_cast<std::uint8_t>(text[i]) < 0x80 ? i : run(i, kLetter);
      }
      return run(i, kLetter);
    }

    std::size_t numbers() const {
      std::size_t i = 0;
      Char next = at(0);
      for (int count = 0; count < splitter.digits_ && next.kind == kNumber; ++count, next = at(i)) i += next.size;
      return i;
    }

    // After one character that is neither letter, number nor line break: letters, or more symbols.
    std::size_t symbol(std::size_t i) const {
      if (at(i).kind == kLetter) return letters(i);
      return run(run(i, kOther), kNewline);
    }

    std::size_t white(Char first) const {
      const Kind next = at(first.size).kind;
      if (first.kind == kSpace && next == kLetter) return letters(first.size);
      if (text[0] == ' ' && next == kOther) return run(run(first.size, kOther), kNewline);
      std::size_t i = 0, last = 0, after_newline = 0;
      for (Char c = first; c.kind == kSpace || c.kind == kNewline; c = at(i)) {
        last = i;
        i += c.size;
        if (c.kind == kNewline) after_newline = i;
      }
      if (after_newline) return after_newline;
      return i == text.size() || last == 0 ? i : last;  // the last one goes to the word that follows
    }

    // 0 where there is none. Case is ignored, and U+017F is a long s.
    std::size_t contraction() const {
      if (text[0] != '\'' || text.size() < 2) return 0;
      if (text.substr(1, 2) == "\xC5\xBF") return 3;
      const auto lower = [&](std::size_t i) { return i < text.size() ? static_cast<char>(text[i] | 0x20) : '\0'; };
      const char a = lower(1), b = lower(2);
      if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
      return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
    }
  };

  const std::uint8_t* kinds_;
  int digits_;
};

}  // namespace bpe
