// What the two implementations of the attention share. Each has the following classes; every thread
// makes an object of its own, which holds its scratch memory.
//
//   Forward   For each sample: load(k, v), then block(q, out, lse, rows) for every block of query
//             rows.
//   Backward  For each sample: load(k, v), then block(d_out, q, out, lse, d_q, rows) for every
//   block
//             of query rows, then store(d_k, d_v), which writes the sums over these rows.
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

}  // namespace ltvr
