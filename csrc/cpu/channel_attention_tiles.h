// The attention on register tiles, in float32 or float64.
//
// A strip, the probabilities of kRows query rows and a few hundred keys, stays in the first-level
// cache between the product that makes it and the product that uses it. The queries are multiplied
// by log2(e) beforehand, so that exp(score) becomes exp2(score), which is cheaper.
#pragma once

#include "channel_attention.h"
#include "few_positions.h"
#include "tile.h"

#include <cmath>
#include <limits>

namespace ltvr::tiles {

constexpr int64_t kBlockRows = 48;

// The keys of a block, and so of one strip. The panels and the rows of a block, up to 128 KiB each,
// stay in the second-level cache.
template <typename T>
int64_t keys_in_block(int64_t positions, int64_t most) {
  const int64_t fitting = 131072 / static_cast<int64_t>(sizeof(T)) / positions;
  return std::max<int64_t>(1, std::min(fitting, most) / kPanel<T>) * kPanel<T>;
}

// The keys or the values of one sample in both layouts of tile.h: rows, as they came, and panels.
template <typename T>
class Operand {
 public:
  explicit Operand(const Shape& shape)
      : shape_(shape),
        padded_channels_(divide_up(shape.channels, kPanel<T>) * kPanel<T>),
        buffer_(shape.sample()),
        panels_(padded_channels_ * shape.positions) {}

  template <typename S>
  void load(const S* source) {
    rows_ = converted(source, buffer_.get(), shape_.sample());
    const int64_t positions = shape_.positions;
    for (int64_t key = 0; key < padded_channels_; ++key) {
      T* column = panels_.get() + key / kPanel<T> * kPanel<T> * positions + key % kPanel<T>;
      for (int64_t n = 0; n < positions; ++n) {
        column[n * kPanel<T>] = key < shape_.channels ? rows_[key * positions + n] : T(0);
      }
    }
  }

  const T* rows(int64_t key = 0) const { return rows_ + key * shape_.positions; }
  const T* panels(int64_t key = 0) const { return panels_.get() + key * shape_.positions; }

 private:
  Shape shape_;
  int64_t padded_channels_;
  Buffer<T> buffer_;
  Buffer<T> panels_;
  const T* rows_ = nullptr;
};

template <typename T>
void scale_rows(const T* source, T* target, int64_t size) {
  at::vec::map([](Vec<T> x) { return x * Vec<T>(static_cast<T>(kLog2e)); }, target, source, size);
}

// ---- Forward ------------------------------------------------------------------------------------

// What is subtracted from the scores of a query before exp2, so that it neither overflows nor
// returns only zeros. The highest score would do, but finding it takes one more product with all
// keys, and it is rarely needed.
//
// Let m be the mean of the keys, and r the largest distance of a key from it. All scores of a query
// q then differ from q . m by at most |q| r, and at least one score is not below q . m. So where
// |q| r is at most kNear, q . m serves as well. Elsewhere the highest score is found.
template <typename T>
class Shift {
 public:
  explicit Shift(const Shape& shape) : shape_(shape), mean_(shape.positions) {}

  void load(const Operand<T>& keys) {
    const int64_t positions = shape_.positions;
    T* mean = mean_.get();
    std::fill_n(mean, positions, T(0));
    for (int64_t d = 0; d < shape_.channels; ++d) {
      const T* key = keys.rows(d);
      for (int64_t n = 0; n < positions; ++n) mean[n] += key[n] / shape_.channels;
    }
    T largest = 0;
    for (int64_t d = 0; d < shape_.channels; ++d) {
      const T* key = keys.rows(d);
      T distance = 0;
      for (int64_t n = 0; n < positions; ++n) distance += (key[n] - mean[n]) * (key[n] - mean[n]);
      largest = distance <= largest ? largest : distance;  // keeps a NaN
    }
    radius_ = std::sqrt(largest);
  }

  template <int R>
  void of_rows(const T* q, const Operand<T>& keys, T* shift) const {
    const int64_t positions = shape_.positions;
    bool near = true;
    for (int r = 0; r < R; ++r) {
      const T* row = q + r * positions;
      shift[r] = dot(row, mean_.get(), positions);
      near = near && std::sqrt(dot(row, row, positions)) * radius_ <= kNear;
    }
    if (near) return;

    constexpr T lowest = -std::numeric_limits<T>::infinity();
    Vec<T> highest[R];
    c10::ForcedUnroll<R>{}([&](auto row) { highest[row] = Vec<T>(lowest); });
    for_products<R>(q, keys.panels(), shape_.channels, positions, [&](auto& tile, int64_t key) {
      tile.each([&](auto row, auto vector) {
        const int64_t left = shape_.channels - key - vector * Vec<T>::size();
        highest[row] =
            at::vec::maximum(highest[row], keep(tile.accumulators[row][vector], left, lowest));
      });
    });
    c10::ForcedUnroll<R>{}([&](auto row) { shift[row] = maximum(highest[row]); });
  }

 private:
  // Unnormalised probabilities are then at most 2^80, which leaves room in float32, up to 2^128,
  // for their sums and for their products with the values.
  static constexpr T kNear = 80;

  Shape shape_;
  Buffer<T> mean_;
  T radius_ = 0;
};

template <typename T>
class Forward {
 public:
  explicit Forward(const Shape& shape)
      : shape_(shape),
        key_block_(keys_in_block<T>(shape.positions, 512)),
        keys_(shape),
        values_(shape),
        shift_(shape),
        q_buffer_(kBlockRows * shape.positions),
        scaled_q_(kBlockRows * shape.positions),
        out_sums_(kBlockRows * shape.positions),
        p_strip_(kRows * key_block_) {}

  static int64_t rows_in_block(const Shape&) { return kBlockRows; }

  template <typename S>
  void load(const S* k, const S* v) {
    keys_.load(k);
    shift_.load(keys_);
    shared_ = v == nullptr;
    if (!shared_) values_.load(v);
  }

  // Computes `rows` rows of out and lse. The pointers are to the first of these rows.
  template <typename S>
  void block(const S* q, S* out, T* lse, int64_t rows) {
    const int64_t positions = shape_.positions, size = rows * positions;
    scale_rows(converted(q, q_buffer_.get(), size), scaled_q_.get(), size);
    T shift[kBlockRows], total[kBlockRows] = {};
    for_tiles(rows, [&](auto tile_rows, int64_t first_row) {
      shift_.template of_rows<tile_rows>(
          scaled_q_.get() + first_row * positions, keys_, shift + first_row);
    });

    std::fill_n(out_sums_.get(), size, T(0));
    for (int64_t key = 0; key < shape_.channels; key += key_block_) {
      const int64_t count = std::min(key_block_, shape_.channels - key);
      if (positions <= few_positions::kMost) {
        few_positions::with_constant(positions, [&](auto n) {
          for_tiles<few_positions::kForwardRows>(rows, [&](auto tile_rows, int64_t first_row) {
            few_positions::forward<tile_rows, n>(
                scaled_q_.get() + first_row * n, keys_.panels(key), values().panels(key), count,
                shift + first_row, total + first_row, out_sums_.get() + first_row * n);
          });
        });
        continue;
      }
      for_tiles(rows, [&](auto tile_rows, int64_t first_row) {
        strip<tile_rows>(first_row, key, count, shift + first_row, total + first_row);
      });
    }

    for (int64_t row = 0; row < rows; ++row) {
      T* line = out_sums_.get() + row * positions;
      const T scale = 1 / total[row];
      for (int64_t n = 0; n < positions; ++n) line[n] *= scale;
      lse[row] = (std::log2(total[row]) + shift[row]) / static_cast<T>(kLog2e);
    }
    at::vec::convert(out_sums_.get(), out, size);
  }

 private:
  const Operand<T>& values() const { return shared_ ? keys_ : values_; }

  template <int R>
  LTVR_FLATTEN void strip(
      int64_t first_row, int64_t first_key, int64_t count, const T* shift, T* total) {
    const int64_t positions = shape_.positions;
    Vec<T> sums[R];
    c10::ForcedUnroll<R>{}([&](auto row) { sums[row] = Vec<T>(0); });
    const T* q_rows = scaled_q_.get() + first_row * positions;
    for_products<R>(
        q_rows, keys_.panels(first_key), count, positions, [&](auto& tile, int64_t key) {
          const bool whole = key + kPanel<T> <= count;
          tile.each([&](auto row, auto vector) {
            constexpr int64_t width = Vec<T>::size();
            Vec<T> p = exp2(tile.accumulators[row][vector] - Vec<T>(shift[row]));
            if (!whole) p = keep(p, count - key - vector * width, T(0));
            sums[row] = sums[row] + p;
            p.store(p_strip_.get() + row * key_block_ + key + vector * width);
          });
        });
    c10::ForcedUnroll<R>{}([&](auto row) { total[row] += sum(sums[row]); });
    add_weighted_rows<R>(
        p_strip_.get(), key_block_, values().rows(first_key), values().panels(first_key), count,
        positions, out_sums_.get() + first_row * positions);
  }

  Shape shape_;
  int64_t key_block_;
  bool shared_ = false;
  Operand<T> keys_, values_;
  Shift<T> shift_;
  Buffer<T> q_buffer_, scaled_q_, out_sums_, p_strip_;
};

// ---- Backward -----------------------------------------------------------------------------------
//
// With the scores s = q k^T:
//   p = exp(s - lse),  dp = d_out v^T,  delta = rowsum(d_out out),  ds = p (dp - delta),
//   d_q = ds k,  d_k = ds^T q,  d_v = p^T d_out.

template <typename T>
class Backward {
 public:
  Backward(const Shape& shape, bool shared)
      : shape_(shape),
        shared_(shared),
        key_block_(keys_in_block<T>(shape.positions, 256)),
        strip_length_(key_block_ + kPanel<T>),
        padded_channels_(divide_up(shape.channels, kPanel<T>) * kPanel<T>),
        keys_(shape),
        values_(shape),
        q_buffer_(kBlockRows * shape.positions),
        scaled_q_(kBlockRows * shape.positions),
        d_out_buffer_(kBlockRows * shape.positions),
        out_buffer_(kBlockRows * shape.positions),
        d_q_sums_(kBlockRows * shape.positions),
        p_strip_(kBlockRows * strip_length_),
        d_s_strip_(kBlockRows * strip_length_),
        d_key_sums_(padded_channels_ * shape.positions),
        d_value_sums_(shared ? 0 : padded_channels_ * shape.positions) {}

  static int64_t rows_in_block(const Shape&) { return kBlockRows; }

  template <typename S>
  void load(const S* k, const S* v) {
    keys_.load(k);
    if (!shared_) values_.load(v);
    std::fill_n(d_key_sums_.get(), padded_channels_ * shape_.positions, T(0));
    if (!shared_) std::fill_n(d_value_sums_.get(), padded_channels_ * shape_.positions, T(0));
  }

  template <typename S>
  void block(const S* d_out, const S* q, const S* out, const T* lse, S* d_q, int64_t rows) {
    const int64_t positions = shape_.positions, size = rows * positions;
    const T* q_rows = converted(q, q_buffer_.get(), size);
    const T* d_out_rows = converted(d_out, d_out_buffer_.get(), size);
    const T* out_rows = converted(out, out_buffer_.get(), size);
    scale_rows(q_rows, scaled_q_.get(), size);
    T log_sum[kBlockRows], delta[kBlockRows];
    for (int64_t row = 0; row < rows; ++row) {
      log_sum[row] = lse[row] * static_cast<T>(kLog2e);
      delta[row] = dot(d_out_rows + row * positions, out_rows + row * positions, positions);
    }

    std::fill_n(d_q_sums_.get(), size, T(0));
    for (int64_t key = 0; key < shape_.channels; key += key_block_) {
      const int64_t count = std::min(key_block_, shape_.channels - key);
      T* d_keys = d_key_sums_.get() + key * positions;
      T* d_values = shared_ ? d_keys : d_value_sums_.get() + key * positions;
      if (positions <= few_positions::kMost) {
        few_positions::with_constant(positions, [&](auto n) {
          for_tiles<few_positions::kBackwardRows>(rows, [&](auto tile_rows, int64_t first_row) {
            const int64_t offset = first_row * n;
            few_positions::backward<tile_rows, n, T>(
                {q_rows + offset, scaled_q_.get() + offset, d_out_rows + offset,
                 log_sum + first_row, delta + first_row, d_q_sums_.get() + offset},
                keys_.panels(key), values().panels(key), count, d_keys, d_values);
          });
        });
        continue;
      }
      for_tiles(rows, [&](auto tile_rows, int64_t first_row) {
        strip<tile_rows>(d_out_rows, first_row, key, count, log_sum + first_row, delta + first_row);
      });
      // The lanes beyond the last key add up meaningless numbers, which store_transposed skips.
      add_transposed_product(
          q_rows, d_s_strip_.get(), strip_length_, rows, count, positions, d_keys);
      add_transposed_product(
          d_out_rows, p_strip_.get(), strip_length_, rows, count, positions, d_values);
    }
    at::vec::convert(d_q_sums_.get(), d_q, size);
  }

  template <typename S>
  void store(S* d_k, S* d_v) const {
    store_transposed(d_key_sums_.get(), kPanel<T>, shape_, d_k);
    if (!shared_) store_transposed(d_value_sums_.get(), kPanel<T>, shape_, d_v);
  }

 private:
  const Operand<T>& values() const { return shared_ ? keys_ : values_; }

  template <int R>
  LTVR_FLATTEN void strip(
      const T* d_out_rows, int64_t first_row, int64_t first_key, int64_t count, const T* log_sum,
      const T* delta) {
    constexpr int64_t width = Vec<T>::size();
    const int64_t positions = shape_.positions, offset = first_row * positions;
    T* p = p_strip_.get() + first_row * strip_length_;
    T* d_s = d_s_strip_.get() + first_row * strip_length_;
    for_products<R>(
        scaled_q_.get() + offset, keys_.panels(first_key), count, positions,
        [&](auto& tile, int64_t key) {
          tile.each([&](auto row, auto vector) {
            // The difference is positive only by rounding, or in the lanes beyond the last key,
            // where the score is 0. exp2 must overflow in neither case.
            const Vec<T> score = at::vec::clamp_max(
                tile.accumulators[row][vector] - Vec<T>(log_sum[row]), Vec<T>(0));
            exp2(score).store(p + row * strip_length_ + key + vector * width);
          });
        });
    for_products<R>(
        d_out_rows + offset, values().panels(first_key), count, positions,
        [&](auto& tile, int64_t key) {
          tile.each([&](auto row, auto vector) {
            const int64_t place = row * strip_length_ + key + vector * width;
            const Vec<T> d_p = tile.accumulators[row][vector] - Vec<T>(delta[row]);
            (Vec<T>::loadu(p + place) * d_p).store(d_s + place);
          });
        });
    add_weighted_rows<R>(
        d_s, strip_length_, keys_.rows(first_key), keys_.panels(first_key), count, positions,
        d_q_sums_.get() + offset);
  }

  Shape shape_;
  bool shared_;
  int64_t key_block_;
  // The distance of two rows of a strip. It is not a power of two, as all rows would then compete
  // for the same sets of the cache.
  int64_t strip_length_;
  int64_t padded_channels_;
  Operand<T> keys_, values_;
  Buffer<T> q_buffer_, scaled_q_, d_out_buffer_, out_buffer_, d_q_sums_, p_strip_, d_s_strip_,
      d_key_sums_, d_value_sums_;
};

}  // namespace ltvr::tiles
