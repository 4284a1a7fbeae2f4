// The matrix products of the attention, computed tile by tile in vector registers (csrc/README.md
// draws them).
//
// The keys, or values, of a sample come in two layouts: `rows` is the matrix as it came, [D, N];
// `panels` is its transpose in groups of kPanel keys, [D / kPanel, N, kPanel], with zeros after the
// last key. All operands are small enough to stay in the caches.
#pragma once

#include "vec.h"

#include <type_traits>

namespace ltvr {

// A tile has kRows x kVectors accumulators, one vector register each. They are as many as the
// instruction set has registers for, beside those of the operands: independent additions fill the
// time that each fused multiply-add takes.
#if defined(CPU_CAPABILITY_AVX512)
constexpr int kRows = 12;
#elif defined(CPU_CAPABILITY_AVX2)
constexpr int kRows = 6;
#elif defined(__aarch64__)
constexpr int kRows = 8;  // of 32 registers; g++ 12 begins to spill at 12 rows
#else
constexpr int kRows = 2;
#endif
constexpr int kVectors = 2;

template <typename T>
constexpr int kPanel = kVectors * Vec<T>::size();

// Inlines everything that a function calls, at any depth. A call that is left would force the
// accumulators out of the registers.
#define LTVR_FLATTEN [[gnu::flatten]]

template <typename T, int R, int V>
struct Tile {
  Vec<T> accumulators[R][V];

  template <typename F>
  static void each(F&& f) {
    c10::ForcedUnroll<R>{}(
        [&](auto row) { c10::ForcedUnroll<V>{}([&](auto vector) { f(row, vector); }); });
  }

  void zero() {
    each([&](auto row, auto vector) { accumulators[row][vector] = Vec<T>(0); });
  }
  void load(const T* c, int64_t c_row) {
    each([&](auto row, auto vector) {
      accumulators[row][vector] = Vec<T>::loadu(c + row * c_row + vector * Vec<T>::size());
    });
  }
  void store(T* c, int64_t c_row) const {
    each([&](auto row, auto vector) {
      accumulators[row][vector].store(c + row * c_row + vector * Vec<T>::size());
    });
  }

  // accumulators[row][:] += sum over k < depth of a[row * a_row + k * a_step] b[k * b_step + :]
  void multiply(
      const T* a, int64_t a_row, int64_t a_step, const T* b, int64_t b_step, int64_t depth) {
    for (int64_t k = 0; k < depth; ++k, a += a_step, b += b_step) {
      Vec<T> b_row[V];
      c10::ForcedUnroll<V>{}(
          [&](auto vector) { b_row[vector] = Vec<T>::loadu(b + vector * Vec<T>::size()); });
      c10::ForcedUnroll<R>{}([&](auto row) {
        const Vec<T> factor(a[row * a_row]);
        c10::ForcedUnroll<V>{}([&](auto vector) {
          accumulators[row][vector] =
              at::vec::fmadd(factor, b_row[vector], accumulators[row][vector]);
        });
      });
    }
  }
};

// Divides rows `first` to `rows` - 1 into tiles and calls f(rows of the tile, first row of the
// tile) for each: tiles of R rows as long as they fit, then smaller ones. The number of rows is a
// type, so that f can be compiled for each.
template <int R = kRows, typename F>
void for_tiles(int64_t rows, F&& f, int64_t first = 0) {
  for (; first + R <= rows; first += R) f(std::integral_constant<int, R>{}, first);
  if constexpr (R > 1) {
    if (first < rows) for_tiles<(R > 6 ? R - 4 : R > 2 ? R - 2 : 1)>(rows, f, first);
  }
}

// Calls f(tile, key) for each panel of `count` keys, `key` being the first of the panel: the tile
// holds the products of R rows of `a` with the keys of the panel.
template <int R, typename T, typename F>
void for_products(const T* a, const T* panels, int64_t count, int64_t positions, F&& f) {
  for (int64_t key = 0; key < count; key += kPanel<T>) {
    Tile<T, R, kVectors> tile;
    tile.zero();
    tile.multiply(a, positions, 1, panels + key * positions, kPanel<T>, positions);
    f(tile, key);
  }
}

// c[row, n] += sum over keys of p[row, key] rows[key, n]. Vectors run over n. The last columns, too
// few for a vector, are computed with vectors over the keys instead, from `panels`; this way N
// needs no padding.
template <int R, typename T>
LTVR_FLATTEN void add_weighted_rows(
    const T* p, int64_t p_row, const T* rows, const T* panels, int64_t count, int64_t positions,
    T* c) {
  constexpr int width = Vec<T>::size();
  int64_t n = 0;
  auto column_block = [&](auto vectors) {
    Tile<T, R, vectors> tile;
    tile.load(c + n, positions);
    tile.multiply(p, p_row, 1, rows + n, positions, count);
    tile.store(c + n, positions);
    n += vectors * width;
  };
  while (n + kVectors * width <= positions) {
    column_block(std::integral_constant<int, kVectors>{});
  }
  if (n + width <= positions) column_block(std::integral_constant<int, 1>{});

  auto single_columns = [&](auto columns) {
    Tile<T, R, columns> tile;
    tile.zero();
    for (int64_t key = 0; key < count; key += kPanel<T>) {
      for (int64_t k = key; k < key + kPanel<T>; k += width) {
        const T* first_column = panels + key * positions + n * kPanel<T> + (k - key);
        Vec<T> values[columns];
        c10::ForcedUnroll<columns>{}([&](auto column) {
          values[column] = Vec<T>::loadu(first_column + column * kPanel<T>);
        });
        c10::ForcedUnroll<R>{}([&](auto row) {
          const Vec<T> weight = Vec<T>::loadu(p + row * p_row + k);
          c10::ForcedUnroll<columns>{}([&](auto column) {
            tile.accumulators[row][column] =
                at::vec::fmadd(weight, values[column], tile.accumulators[row][column]);
          });
        });
      }
    }
    tile.each([&](auto row, auto column) {
      c[row * positions + n + column] += sum(tile.accumulators[row][column]);
    });
    n += columns;
  };
  while (n + 2 <= positions) single_columns(std::integral_constant<int, 2>{});
  if (n < positions) single_columns(std::integral_constant<int, 1>{});
}

// c[n, key] += sum over rows of a[row, n] p[row, key], for whole panels of keys. c is laid out in
// panels, so that it is read and written in the order of memory.
template <typename T>
LTVR_FLATTEN void add_transposed_product(
    const T* a, const T* p, int64_t p_row, int64_t rows, int64_t count, int64_t positions, T* c) {
  for (int64_t key = 0; key < count; key += kPanel<T>) {
    for_tiles(positions, [&](auto tile_rows, int64_t n) {
      Tile<T, tile_rows, kVectors> tile;
      T* target = c + key * positions + n * kPanel<T>;
      tile.load(target, kPanel<T>);
      tile.multiply(a + n, 1, positions, p + key, p_row, rows);
      tile.store(target, kPanel<T>);
    });
  }
}

}  // namespace ltvr
