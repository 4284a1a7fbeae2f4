// The attention of a few query rows with a block of keys where a map has very few positions.
//
// A product over so few positions takes less time than to store its result and load it again for
// the next product. So here everything that belongs to a score is done while it is in a register:
// vectors run over the keys, and the number of positions, N, is a constant that unrolls all loops.
// Keys and values come as panels (tile.h).
#pragma once

#include "tile.h"

namespace ltvr::few_positions {

constexpr int64_t kMost = 4;
// Rows at a time: what gives the compiler the least to spill to memory beside the sums, N vectors
// for each row. On AVX-512, cycles for 16 scores at N = 4: forward 16.5 of 2 rows and 18.6 of 4,
// backward 33.1 and 31.0. aarch64 also has 32 registers; for 4 keys llvm-mca gives a Neoverse N2
// forward 13.7 cycles a row of 2 rows and 14.6 of 4, backward 43.6 and 23.3.
constexpr int kForwardRows = 2;
constexpr int kBackwardRows = kRows >= 8 ? 4 : 2;

// Calls f with `positions`, from 1 to kMost, as a constant.
template <typename F>
void with_constant(int64_t positions, F&& f) {
  switch (positions) {
    case 1:
      return f(std::integral_constant<int, 1>{});
    case 2:
      return f(std::integral_constant<int, 2>{});
    case 3:
      return f(std::integral_constant<int, 3>{});
    default:
      return f(std::integral_constant<int, 4>{});
  }
}

// Where the vector that begins with `key` is in panels; its position n is n * kPanel further.
template <typename T>
const T* vector_of(const T* panels, int64_t key, int64_t positions) {
  return panels + key / kPanel<T> * kPanel<T> * positions + key % kPanel<T>;
}

// result[row] = start[row] + a[row] . b for the vector of keys at `b`, row by row.
template <int R, int N, typename T>
void multiply(const T* a, const T* b, const T* start, Vec<T> (&result)[R]) {
  c10::ForcedUnroll<R>{}([&](auto row) { result[row] = Vec<T>(start[row]); });
  c10::ForcedUnroll<N>{}([&](auto n) {
    const Vec<T> line = Vec<T>::loadu(b + n * kPanel<T>);
    c10::ForcedUnroll<R>{}(
        [&](auto row) { result[row] = at::vec::fmadd(Vec<T>(a[row * N + n]), line, result[row]); });
  });
}

// sums[row][n] += weights[row] * b[n]
template <int R, int N, typename T>
void add_products(const Vec<T> (&weights)[R], const T* b, Vec<T> (&sums)[R][N]) {
  c10::ForcedUnroll<N>{}([&](auto n) {
    const Vec<T> line = Vec<T>::loadu(b + n * kPanel<T>);
    c10::ForcedUnroll<R>{}(
        [&](auto row) { sums[row][n] = at::vec::fmadd(weights[row], line, sums[row][n]); });
  });
}

// target[n] += sum over rows of a[row, n] weights[row]
template <int R, int N, typename T>
void add_transposed(const T* a, const Vec<T> (&weights)[R], T* target) {
  c10::ForcedUnroll<N>{}([&](auto n) {
    Vec<T> line = Vec<T>::loadu(target + n * kPanel<T>);
    c10::ForcedUnroll<R>{}(
        [&](auto row) { line = at::vec::fmadd(Vec<T>(a[row * N + n]), weights[row], line); });
    line.store(target + n * kPanel<T>);
  });
}

template <int R, int N, typename T>
void add_to_rows(const Vec<T> (&sums)[R][N], T* rows) {
  c10::ForcedUnroll<R>{}([&](auto row) {
    c10::ForcedUnroll<N>{}([&](auto n) { rows[row * N + n] += sum(sums[row][n]); });
  });
}

template <int R, int N, typename T>
void zero(Vec<T> (&sums)[R][N]) {
  c10::ForcedUnroll<R>{}(
      [&](auto row) { c10::ForcedUnroll<N>{}([&](auto n) { sums[row][n] = Vec<T>(0); }); });
}

// For R rows of q, which is scaled by log2(e): total[row] += sum of p and out[row] += p v over
// `count` keys, where p = exp2(q k - shift).
template <int R, int N, typename T>
LTVR_FLATTEN void forward(
    const T* q, const T* k, const T* v, int64_t count, const T* shift, T* total, T* out) {
  constexpr int64_t width = Vec<T>::size();
  T start[R];
  for (int row = 0; row < R; ++row) start[row] = -shift[row];
  Vec<T> totals[R][1], sums[R][N];
  zero<R, 1>(totals);
  zero<R, N>(sums);
  const auto one_vector = [&](int64_t key, auto&& only_keys) {
    Vec<T> p[R];
    multiply<R, N>(q, vector_of(k, key, N), start, p);
    c10::ForcedUnroll<R>{}([&](auto row) {
      // Huge scores round by more than the shift allows for; no other is above 80.
      p[row] = only_keys(exp2(at::vec::clamp_max(p[row], Vec<T>(100))));
      totals[row][0] = totals[row][0] + p[row];
    });
    add_products<R, N>(p, vector_of(v, key, N), sums);
  };
  int64_t key = 0;
  for (; key + width <= count; key += width) one_vector(key, [](Vec<T> p) { return p; });
  if (key < count) one_vector(key, [&](Vec<T> p) { return keep(p, count - key, T(0)); });
  add_to_rows<R, 1>(totals, total);
  add_to_rows<R, N>(sums, out);
}

template <typename T>
struct Rows {
  const T *q, *scaled_q, *d_out, *log_sum, *delta;
  T* d_q;
};

// For R rows: adds to d_q, and to d_k and d_v, which are panels, what these rows and `count` keys
// contribute (the formulas are in channel_attention_tiles.h).
template <int R, int N, typename T>
LTVR_FLATTEN void backward(
    const Rows<T>& rows, const T* k, const T* v, int64_t count, T* d_k, T* d_v) {
  T log_start[R], delta_start[R];
  for (int row = 0; row < R; ++row) {
    log_start[row] = -rows.log_sum[row];
    delta_start[row] = -rows.delta[row];
  }
  Vec<T> d_q[R][N];
  zero<R, N>(d_q);
  for (int64_t key = 0; key < count; key += Vec<T>::size()) {
    const int64_t place = vector_of(k, key, N) - k;
    Vec<T> p[R], d_s[R];
    multiply<R, N>(rows.scaled_q, k + place, log_start, p);
    // The score is above 0 only by rounding, or in the lanes beyond the last key.
    c10::ForcedUnroll<R>{}([&](auto row) { p[row] = exp2(at::vec::clamp_max(p[row], Vec<T>(0))); });
    multiply<R, N>(rows.d_out, v + place, delta_start, d_s);
    c10::ForcedUnroll<R>{}([&](auto row) { d_s[row] = d_s[row] * p[row]; });
    add_products<R, N>(d_s, k + place, d_q);
    add_transposed<R, N>(rows.q, d_s, d_k + place);
    add_transposed<R, N>(rows.d_out, p, d_v + place);
  }
  add_to_rows<R, N>(d_q, rows.d_q);
}

}  // namespace ltvr::few_positions
