// What the two implementations of the attention share. Each has the following classes; every thread
// makes an object of its own, which holds its scratch memory.
//
//   Forward   For each sample: load(k, v), then, for every block of query rows,
//             block(q, out, lse, rows).
//   Backward  For each sample: load(k, v), then, for every block of query rows,
//             block(d_out, q, out, lse, d_q, rows), then store(d_k, d_v), which writes the sums
//             over these rows.
//
// v is null where the keys are also the values; d_k then gets the gradient of both.
#pragma once

#include <cstdint>

namespace ltvr {

// The shape of q, [B, D, N].
struct Shape {
  int64_t batch, channels, positions;

  int64_t sample() const { return channels * positions; }
};

// Writes sums over query rows as a gradient, [D, N]. They are in panels of `width` keys,
// [D / width, N, width]; what stands in the last one beyond the last key is left out.
template <typename T, typename S>
void store_transposed(const T* sums, int64_t width, const Shape& shape, S* target) {
  for (int64_t key = 0; key < shape.channels; ++key, target += shape.positions) {
    const T* column = sums + key / width * width * shape.positions + key % width;
    for (int64_t n = 0; n < shape.positions; ++n) target[n] = static_cast<S>(column[n * width]);
  }
}

}  // namespace ltvr
