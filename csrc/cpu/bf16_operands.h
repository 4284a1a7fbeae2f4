// Matrices laid out as the bf16 units take them (bf16_units.h), filled up with zeros.
#pragma once

#include "bf16_units.h"
#include "vec.h"

#include <algorithm>

namespace ltvr::bf16 {

constexpr int64_t kWidestPanel = 64;

// The size of equal parts of `total`, at most `most`, in multiples of `multiple`.
inline int64_t part_size(int64_t total, int64_t most, int64_t multiple) {
  const int64_t parts = std::max<int64_t>(1, divide_up(total, most));
  return std::max<int64_t>(1, divide_up(total, parts * multiple)) * multiple;
}

inline int64_t next_even(int64_t size) {
  return divide_up(size, 2) * 2;
}

// A right-hand matrix in panels of `width` columns, each packed as the units take it.
class Packed {
 public:
  Packed(int64_t rows, int64_t columns)
      : width_(part_size(columns, kWidestPanel, 16)),
        panels_(divide_up(columns, width_)),
        depth_(next_even(rows)),
        pairs_(panels_ * depth_ / 2 * width_) {
    std::fill_n(pairs_.get(), panels_ * depth_ / 2 * width_, Pair{});
  }

  // From [rows, columns].
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

  // From [columns, rows].
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

  // c = a times `count` panels from `first` on; a [rows, next_even(depth)].
  void multiply_panels(
      int64_t rows, const BFloat16* a, int64_t first, int64_t count, float* c,
      int64_t c_row) const {
    for (int64_t i = 0; i < count; ++i) {
      multiply_packed(
          rows, width_, depth_, a, depth_, pairs_from(first + i, 0), c + i * width_, c_row, false);
    }
  }

  // c += a times `count` rows from `first` on, both even; c [rows, columns()].
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

// Rows of a matrix of the sample as a left-hand one, filled up: [most, next_even(positions)].
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

// The same transposed: [positions, most].
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
