// What the implementations of the attention share. Each has two classes, made for one thread:
//
//   Forward   load(k, v), then block(q, out, lse, rows) for blocks of query rows
//   Backward  load(k, v), then block(d_out, q, out, lse, d_q, rows) for blocks of query rows, then
//             store(d_k, d_v): the sums over these rows
//
// v is null where the keys are the values; d_k then has the gradient of both.
#pragma once

#include <cstdint>

namespace ltvr {

// Of q: B, D, N.
struct Shape {
  int64_t batch, channels, positions;

  int64_t sample() const { return channels * positions; }
};

}  // namespace ltvr
