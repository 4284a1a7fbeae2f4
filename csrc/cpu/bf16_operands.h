// Matrices laid out as the bf16 units read them (bf16_units.h), with zeros up to whole blocks.
//
// The units multiply a left-hand matrix, row by row in memory, by a right-hand one, which is
// packed: Rows and Columns are left-hand matrices, Packed is a right-hand one.
#pragma once

#include "bf16_units.h"
#include "vec.h"

#include <algorithm>

namespace ltvr::bf16 {

constexpr int64_t kWidestPanel = 64;

// Divides `total` into as few equal parts as there can be with at most `most` in each. Returns
// their size, rounded up to a multiple of `multiple`.
inline int64_t part_size(int64_t total, int64_t most, int64_t multiple) {
  const int64_t parts = std::max<int64_t>(1, divide_up(total, most));
  return std::max<int64_t>(1, divide_up(total, parts * multiple)) * multiple;
}

inline int64_t next_even(int64_t size) {
  return divide_up(size, 2) * 2;
}

// A right-hand matrix [rows, columns], in panels of `width` columns. Each panel holds pairs of
// consecutive rows: [depth / 2, width], depth being the number of rows made even.
class Packed {
 public:
  Packed(int64_t rows, int64_t columns)
      : width_(part_size(columns, kWidestPanel, 16)),
        panels_(divide_up(columns, width_)),
        depth_(next_even(rows)),
        pairs_(panels_ * depth_ / 2 * width_) {
    std::fill_n(pairs_.get(), panels_ * depth_ / 2 * width_, Pair{});
  }

  // Fills the matrix from a source [rows, columns].
  void load(const BFloat16* source, int64_t rows, int64_t columns) {
    for (int64_t first = 0; first < columns; first += width_) {
      const int64_t count = std::min(width_, columns - first);
      const BFloat16* row = source + first;
      Pair* pairs = pairs_from(first / width_, 0);
      for (int64_t k = 0; k + 1 < rows; k += 2, row += 2 * columns, pairs += width_) {
        for (int64_t i = 0; i < count; ++i) pairs[i] = {row[i], row[columns + i]};
      }
      if (rows % 2 == 0) continue;
      for (int64_t i = 0; i < count; ++i) pairs[i].even = row[i];
    }
  }

  // Fills the matrix from its transpose, a source [columns, rows].
  void load_transposed(const BFloat16* source, int64_t rows, int64_t columns) {
    for (int64_t column = 0; column < columns; ++column, source += rows) {
      Pair* pairs = pairs_from(column / width_, 0) + column % width_;
      for (int64_t k = 0; k + 1 < rows; k += 2, pairs += width_) {
        *pairs = {source[k], source[k + 1]};
      }
      if (rows % 2 != 0) pairs->even = source[rows - 1];
    }
  }

  int64_t width() const { return width_; }
  int64_t panels() const { return panels_; }
  int64_t columns() const { return panels_ * width_; }

  // c = a B, where B is the `count` panels that begin with panel `first`; a is [rows, depth].
  void multiply_panels(
      int64_t rows, const BFloat16* a, int64_t first, int64_t count, float* c,
      int64_t c_row) const {
    for (int64_t i = 0; i < count; ++i) {
      multiply_packed(
          rows, width_, depth_, a, depth_, pairs_from(first + i, 0), c + i * width_, c_row, false);
    }
  }

  // c += a B, where B is the `count` rows that begin with row `first`, over all columns. `first`
  // and `count` are even, as rows are packed in pairs; c is [rows, columns()].
  void add_product(
      int64_t rows, const BFloat16* a, int64_t a_row, int64_t first, int64_t count,
      float* c) const {
    for (int64_t i = 0; i < panels_; ++i) {
      multiply_packed(
          rows, width_, count, a, a_row, pairs_from(i, first), c + i * width_, columns(), true);
    }
  }

 private:
  Pair* pairs_from(int64_t panel, int64_t row) const {
    return pairs_.get() + (panel * depth_ + row) / 2 * width_;
  }

  int64_t width_, panels_, depth_;
  Buffer<Pair> pairs_;
};

// A block of rows of q or d_out as a left-hand matrix [most, next_even(positions)]. The block may
// have fewer rows; the rest is zero.
class Rows {
 public:
  Rows(int64_t most, int64_t positions)
      : most_(most), positions_(positions), data_(most * next_even(positions)) {}

  void load(const BFloat16* source, int64_t rows) {
    const int64_t length = next_even(positions_);
    std::fill_n(data_.get(), most_ * length, BFloat16(0));
    for (int64_t row = 0; row < rows; ++row) {
      std::copy_n(source + row * positions_, positions_, data_.get() + row * length);
    }
  }

  const BFloat16* get() const { return data_.get(); }

 private:
  int64_t most_, positions_;
  Buffer<BFloat16> data_;
};

// The transpose of such a block as a left-hand matrix [positions, most].
class Columns {
 public:
  Columns(int64_t most, int64_t positions)
      : most_(most), positions_(positions), data_(positions * most) {}

  void load(const BFloat16* source, int64_t rows) {
    for (int64_t n = 0; n < positions_; ++n) {
      BFloat16* column = data_.get() + n * most_;
      for (int64_t row = 0; row < rows; ++row) column[row] = source[row * positions_ + n];
      std::fill(column + rows, column + most_, BFloat16(0));
    }
  }

  const BFloat16* get() const { return data_.get(); }

 private:
  int64_t most_, positions_;
  Buffer<BFloat16> data_;
};

}  // namespace ltvr::bf16
