// The attention on the CPU's bf16 units. Products take bfloat16 and sum in float32; everything
// between two products is float32.
//
// The scores of a block of query rows with a strip of keys stay in the second-level cache between
// the products. oneDNN compiles a kernel for every size of matrix that it meets, so all blocks and
// panels of a sample have the same size, and the last ones are filled up with zeros.
#pragma once

#include "bf16_operands.h"
#include "bf16_units.h"
#include "channel_attention.h"
#include "vec.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ltvr::bf16 {

constexpr int64_t kMostRows = 128;
constexpr int64_t kPanelsInStrip = 4;

inline int64_t rows_in_block(const Shape& shape) {
  return part_size(shape.channels, kMostRows, 2);
}

// ---- Forward ------------------------------------------------------------------------------------

class Forward {
 public:
  explicit Forward(const Shape& shape)
      : shape_(shape),
        rows_(rows_in_block(shape)),
        keys_(shape.positions, shape.channels),
        values_(keys_.columns(), shape.positions),
        strip_length_(std::min(kPanelsInStrip, keys_.panels()) * keys_.width()),
        q_rows_(rows_, shape.positions),
        p_strip_(rows_ * strip_length_),
        score_strip_(rows_ * strip_length_),
        out_sums_(rows_ * values_.columns()) {}

  static int64_t rows_in_block(const Shape& shape) { return bf16::rows_in_block(shape); }

  void load(const BFloat16* k, const BFloat16* v) {
    keys_.load_transposed(k, shape_.positions, shape_.channels);
    values_.load(v ? v : k, shape_.channels, shape_.positions);
  }

  void block(const BFloat16* q, BFloat16* out, float* lse, int64_t rows) {
    const int64_t columns = values_.columns();
    q_rows_.load(q, rows);
    std::fill_n(out_sums_.get(), rows_ * columns, 0.0f);
    float highest[kMostRows], total[kMostRows] = {};
    std::fill_n(highest, rows_, -std::numeric_limits<float>::infinity());
    for (int64_t panel = 0; panel < keys_.panels(); panel += kPanelsInStrip) {
      const int64_t panels = std::min(kPanelsInStrip, keys_.panels() - panel);
      const int64_t key = panel * keys_.width(), count = panels * keys_.width();
      keys_.multiply_panels(rows_, q_rows_.get(), panel, panels, score_strip_.get(), strip_length_);
      for (int64_t row = 0; row < rows_; ++row) {
        float* p = score_strip_.get() + row * strip_length_;
        const float scale = exponentiate(p, count, shape_.channels - key, highest[row]);
        total[row] = total[row] * scale + sum(p, count);
        if (scale != 1) multiply(out_sums_.get() + row * columns, scale, columns);
        at::vec::convert(p, p_strip_.get() + row * strip_length_, count);
      }
      values_.add_product(rows_, p_strip_.get(), strip_length_, key, count, out_sums_.get());
    }

    for (int64_t row = 0; row < rows; ++row) {
      float* line = out_sums_.get() + row * columns;
      multiply(line, 1 / total[row], columns);
      at::vec::convert(line, out + row * shape_.positions, shape_.positions);
      lse[row] = std::log(total[row]) + highest[row];
    }
  }

 private:
  static constexpr int64_t kWidth = Vec<float>::size();

  // Replaces scores by exp(score - highest), where `highest` becomes the highest score of the row
  // up to here; from `valid` on, beyond the last key, by zero. Returns the factor that makes
  // earlier sums of the row, which are relative to the highest score until then, relative to the
  // new one.
  static float exponentiate(float* scores, int64_t count, int64_t valid, float& highest) {
    constexpr float lowest = -std::numeric_limits<float>::infinity();
    const float before = highest;
    Vec<float> lanes(before);
    for (int64_t i = 0; i < count; i += kWidth) {
      lanes = at::vec::maximum(lanes, keep(Vec<float>::loadu(scores + i), valid - i, lowest));
    }
    highest = maximum(lanes);
    for (int64_t i = 0; i < count; i += kWidth) {
      const Vec<float> score = Vec<float>::loadu(scores + i) - Vec<float>(highest);
      keep(exp2(score * Vec<float>(kLog2e)), valid - i, 0.0f).store(scores + i);
    }
    return std::exp(before - highest);
  }

  static float sum(const float* x, int64_t size) {
    Vec<float> lanes(0);
    for (int64_t i = 0; i < size; i += kWidth) lanes = lanes + Vec<float>::loadu(x + i);
    return ltvr::sum(lanes);
  }

  static void multiply(float* x, float factor, int64_t size) {
    for (int64_t i = 0; i < size; ++i) x[i] *= factor;
  }

  UnitsInUse units_;
  Shape shape_;
  int64_t rows_;
  Packed keys_, values_;
  int64_t strip_length_;
  Rows q_rows_;
  Buffer<BFloat16> p_strip_;
  Buffer<float> score_strip_, out_sums_;
};

// ---- Backward -----------------------------------------------------------------------------------
//
// The formulas are in channel_attention_tiles.h. A strip is one panel of keys. The gradients of the
// keys and values are summed transposed, d_k^T += q^T ds and d_v^T += d_out^T p: p and ds are the
// right-hand matrices there, so they are stored as pairs of rows as well.

class Backward {
 public:
  Backward(const Shape& shape, bool shared)
      : shape_(shape),
        shared_(shared),
        rows_(rows_in_block(shape)),
        keys_(shape.positions, shape.channels),
        values_(shape.positions, shape.channels),
        key_rows_(keys_.columns(), shape.positions),
        width_(keys_.width()),
        q_rows_(rows_, shape.positions),
        d_out_rows_(rows_, shape.positions),
        q_columns_(rows_, shape.positions),
        d_out_columns_(rows_, shape.positions),
        lines_(2 * shape.positions),
        score_strip_(rows_ * width_),
        d_p_strip_(rows_ * width_),
        d_q_sums_(rows_ * key_rows_.columns()),
        d_key_sums_(shape.positions * keys_.columns()),
        d_value_sums_(shared ? 0 : shape.positions * keys_.columns()),
        d_s_strip_(rows_ * width_),
        p_pairs_(rows_ / 2 * width_),
        d_s_pairs_(rows_ / 2 * width_) {}

  static int64_t rows_in_block(const Shape& shape) { return bf16::rows_in_block(shape); }

  void load(const BFloat16* k, const BFloat16* v) {
    keys_.load_transposed(k, shape_.positions, shape_.channels);
    values_.load_transposed(v ? v : k, shape_.positions, shape_.channels);
    key_rows_.load(k, shape_.channels, shape_.positions);
    std::fill_n(d_key_sums_.get(), shape_.positions * keys_.columns(), 0.0f);
    if (!shared_) std::fill_n(d_value_sums_.get(), shape_.positions * keys_.columns(), 0.0f);
  }

  void block(
      const BFloat16* d_out, const BFloat16* q, const BFloat16* out, const float* lse,
      BFloat16* d_q, int64_t rows) {
    const int64_t positions = shape_.positions;
    q_rows_.load(q, rows);
    d_out_rows_.load(d_out, rows);
    q_columns_.load(q, rows);
    d_out_columns_.load(d_out, rows);
    // In the rows that fill up the block q, d_out, log_sum and delta are zero. p is 1 there, but it
    // is multiplied by rows of d_out only, which are zero.
    float log_sum[kMostRows] = {}, delta[kMostRows] = {};
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t offset = row * positions;
      log_sum[row] = lse[row];
      delta[row] =
          dot(converted(d_out + offset, lines_.get(), positions),
              converted(out + offset, lines_.get() + positions, positions), positions);
    }

    std::fill_n(d_q_sums_.get(), rows_ * key_rows_.columns(), 0.0f);
    for (int64_t panel = 0; panel < keys_.panels(); ++panel) {
      keys_.multiply_panels(rows_, q_rows_.get(), panel, 1, score_strip_.get(), width_);
      values_.multiply_panels(rows_, d_out_rows_.get(), panel, 1, d_p_strip_.get(), width_);
      for (int64_t row = 0; row < rows_; row += 2) {
        two_rows(row * width_, log_sum + row, delta + row);
      }
      key_rows_.add_product(
          rows_, d_s_strip_.get(), width_, panel * width_, width_, d_q_sums_.get());
      add_columns(q_columns_, d_s_pairs_.get(), d_key_sums_, panel);
      add_columns(d_out_columns_, p_pairs_.get(), shared_ ? d_key_sums_ : d_value_sums_, panel);
    }
    for (int64_t row = 0; row < rows; ++row) {
      at::vec::convert(
          d_q_sums_.get() + row * key_rows_.columns(), d_q + row * positions, positions);
    }
  }

  template <typename S>
  void store(S* d_k, S* d_v) const {
    store_transposed(d_key_sums_.get(), width_, shape_, d_k);
    if (!shared_) store_transposed(d_value_sums_.get(), width_, shape_, d_v);
  }

 private:
  // Makes p and ds of two rows, from the scores and d_p that begin at `first` in their strips.
  void two_rows(int64_t first, const float* log_sum, const float* delta) {
    for (int64_t i = 0; i < width_; i += Vec<float>::size()) {
      Vec<float> p[2], d_s[2];
      for (int r = 0; r < 2; ++r) {
        const int64_t place = first + r * width_ + i;
        // The difference is positive only by rounding, or beyond the last key, where the score is a
        // zero that fills up the panel. exp2 must overflow in neither case.
        const Vec<float> score = at::vec::clamp_max(
            Vec<float>::loadu(score_strip_.get() + place) - Vec<float>(log_sum[r]), Vec<float>(0));
        p[r] = exp2(score * Vec<float>(kLog2e));
        d_s[r] = p[r] * (Vec<float>::loadu(d_p_strip_.get() + place) - Vec<float>(delta[r]));
        d_s[r].store(d_p_strip_.get() + place);
      }
      store_pairs(p, p_pairs_.get() + first / 2 + i);
      store_pairs(d_s, d_s_pairs_.get() + first / 2 + i);
    }
    at::vec::convert(d_p_strip_.get() + first, d_s_strip_.get() + first, 2 * width_);
  }

  static void store_pairs(const Vec<float> (&rows)[2], Pair* pairs) {
    const auto [low, high] = at::vec::interleave2(rows[0], rows[1]);
    at::vec::convert_from_float<BFloat16>(low, high).store(pairs);
  }

  // Adds the product of `columns` and b to one panel of `sums`, [panels, positions, width].
  void add_columns(
      const Columns& columns, const Pair* b, const Buffer<float>& sums, int64_t panel) const {
    multiply_packed(
        shape_.positions, width_, rows_, columns.get(), rows_, b,
        sums.get() + panel * shape_.positions * width_, width_, true);
  }

  UnitsInUse units_;
  Shape shape_;
  bool shared_;
  int64_t rows_;
  Packed keys_, values_, key_rows_;
  int64_t width_;
  Rows q_rows_, d_out_rows_;
  Columns q_columns_, d_out_columns_;
  Buffer<float> lines_, score_strip_, d_p_strip_, d_q_sums_, d_key_sums_, d_value_sums_;
  Buffer<BFloat16> d_s_strip_;
  Buffer<Pair> p_pairs_, d_s_pairs_;
};

}  // namespace ltvr::bf16
