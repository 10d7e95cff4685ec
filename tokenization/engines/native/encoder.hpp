// Text to tokens: added tokens first, then words, each from the cache or by merging.

#pragma once

#include <iterator>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cache.hpp"
#include "merges.hpp"
#include "words.hpp"

namespace bpe {

class Encoder {
 public:
  Encoder(Splitter splitter, Merges merges) : splitter_(splitter), merges_(std::move(merges)) {}

  // A word that is this text becomes this token, whatever the merges say.
  void add_whole(std::string text, Token token) { whole_.emplace(std::move(text), token); }

  // This text becomes this token wherever it stands; of several that begin at one place, the one that was added first.
  void add_token(std::string text, Token token) {
    if (firsts_.find(text[0]) == std::string::npos) firsts_ += text[0];
    added_.emplace_back(std::move(text), token);
  }

  bool perhaps_not_normal(std::string_view text) const { return splitter_.perhaps_not_normal(text); }

  // Appends the tokens of `text`, valid UTF-8, at most one a byte, to `out`; writes at most kSlack past them.
  static constexpr std::size_t kSlack = 4;
  Token* encode(std::string_view text, Token* out) {
    std::size_t begin = 0;
    for (std::size_t i = next_first(text, 0); i < text.size(); i = next_first(text, i)) {
      const Added* added = added_at(text, i);
      if (added == nullptr) {
        ++i;
        continue;
      }
      out = plain(text.substr(begin, i - begin), text, out);
      *out++ = added->second;
      begin = i += added->first.size();
    }
    return plain(text.substr(begin), text, out);
  }

 private:
  using Added = std::pair<std::string, Token>;

  // Where an added token may begin, at or after `i`. Most often all begin with "<", which can be found fast.
  std::size_t next_first(std::string_view text, std::size_t i) const {
    return firsts_.size() == 1 ? text.find(firsts_[0], i) : text.find_first_of(firsts_, i);
  }

  const Added* added_at(std::string_view text, std::size_t i) const {
    for (const Added& added : added_)
      if (text.compare(i, added.first.size(), added.first) == 0) return &added;
    return nullptr;
  }

  // A part of `text` that has no added token. Words are looked up some at a time, so that the memory that one waits
  // for comes while others are split.
  Token* plain(std::string_view part, std::string_view text, Token* out) {
    struct Word {
      std::string_view text;
      Key key;
      Cache::Place* place;
    };
    Word words[128];
    while (!part.empty()) {
      std::size_t count = 0;
      for (; count < std::size(words) && !part.empty(); ++count) {
        Word& word = words[count];
        word.text = part.substr(0, splitter_.first_word(part));
        if (word.text.size() <= Key::kLongest) {
          word.key = Key(word.text, text.data() + text.size() - word.text.data());
          word.place = &cache_.place(word.key);
        } else {
          word.place = nullptr;
        }
        part.remove_prefix(word.text.size());
      }
      for (std::size_t i = 0; i < count; ++i) {
        const auto make = [&](Token* to) { return merged(words[i].text, to); };
        out = words[i].place ? Cache::append(*words[i].place, words[i].key, out, make) : make(out);
      }
    }
    return out;
  }

  Token* merged(std::string_view word, Token* out) const {
    if (!whole_.empty())
      if (const auto found = whole_.find(std::string(word)); found != whole_.end()) {
        *out = found->second;
        return out + 1;
      }
    return merges_.encode(word, out);
  }

  Splitter splitter_;
  Merges merges_;
  std::unordered_map<std::string, Token> whole_;
  std::vector<Added> added_;
  std::string firsts_;  // characters of the added tokens
  Cache cache_{19};
};

}  // namespace bpe
