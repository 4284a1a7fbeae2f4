// Attention among the D channels of a feature map (eq. 1) and its gradients. The schemas and the
// meaning of the operators are in ltvr/afa/ops.py.
//
// A thread takes blocks of query rows of a sample and computes them with register tiles, or, for
// bfloat16 on a CPU where they are faster, with the bf16 units. The D x D scores are never in
// memory as a whole (csrc/README.md).

#include "channel_attention.h"

#include "bf16_units.h"
#include "channel_attention_bf16.h"
#include "channel_attention_tiles.h"
#include "checks.h"
#include "subnormals.h"
#include "vec.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/sum.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <tuple>

namespace ltvr {
namespace {

using at::Tensor;

// The gradients of the keys are sums over all query rows of a sample, so one thread makes them. In
// a batch smaller than this, few threads would have work. The rows are therefore split into parts
// with sums of their own, which are added in a fixed order at the end. The number of parts depends
// on the shape only, so that the result does not depend on the number of threads.
constexpr int64_t kFewSamples = 4;

template <typename S>
struct OnTiles {
  using Storage = S;
  using Forward = tiles::Forward<Compute<S>>;
  using Backward = tiles::Backward<Compute<S>>;
};

struct OnBf16Units {
  using Storage = BFloat16;
  using Forward = bf16::Forward;
  using Backward = bf16::Backward;
};

// Below so many positions the products are a small part of the work, and the units, between whose
// products the scores are stored and converted, are slower than the tiles.
constexpr int64_t kFewPositions = 16;

// Calls f with the best implementation for the dtype, or with that on the bf16 units if forced.
template <typename F>
void dispatch(at::ScalarType dtype, const Shape& shape, bool force_units, F&& f) {
  TORCH_CHECK_VALUE(!force_units || dtype == at::kBFloat16, "q: expected bfloat16, got ", dtype);
  const bool on_units =
      dtype == at::kBFloat16 && shape.positions >= kFewPositions && bf16_units_pay();
  if (force_units || on_units) return f(OnBf16Units{});
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kBFloat16, at::kHalf, dtype, "channel_attention", [&] { f(OnTiles<scalar_t>{}); });
}

Shape check(const Tensor& q, const Tensor& k, const std::optional<Tensor>& v) {
  check_features("q", q);
  check_tensor("k", k, q.sizes(), q.scalar_type());
  if (v) check_tensor("v", *v, q.sizes(), q.scalar_type());
  return {q.size(0), q.size(1), q.size(2)};
}

template <bool force_units>
std::tuple<Tensor, Tensor> channel_attention(
    const Tensor& given_q, const Tensor& given_k, const std::optional<Tensor>& given_v) {
  const Shape shape = check(given_q, given_k, given_v);
  const Tensor q = given_q.contiguous(), k = given_k.contiguous();
  const Tensor v = given_v ? given_v->contiguous() : Tensor();
  Tensor out = at::empty_like(k);
  Tensor lse = at::empty(
      {shape.batch, shape.channels}, q.options().dtype(at::toOpMathType(q.scalar_type())));
  if (shape.batch == 0) return {out, lse};
  dispatch(q.scalar_type(), shape, force_units, [&](auto implementation) {
    using Forward = typename decltype(implementation)::Forward;
    using S = typename decltype(implementation)::Storage;
    const S* query = q.const_data_ptr<S>();
    const S* key = k.const_data_ptr<S>();
    const S* value = v.defined() ? v.const_data_ptr<S>() : nullptr;
    S* output = out.mutable_data_ptr<S>();
    Compute<S>* statistics = lse.mutable_data_ptr<Compute<S>>();
    const int64_t rows = Forward::rows_in_block(shape), blocks = divide_up(shape.channels, rows);
    at::parallel_for(0, shape.batch * blocks, 1, [&](int64_t begin, int64_t end) {
      const SubnormalsAreZero zero;
      Forward forward(shape);
      int64_t loaded = -1;
      for (int64_t task = begin; task < end; ++task) {
        const int64_t b = task / blocks, row = task % blocks * rows;
        const int64_t sample_offset = b * shape.sample();
        const int64_t row_offset = sample_offset + row * shape.positions;
        if (b != loaded) forward.load(key + sample_offset, value ? value + sample_offset : nullptr);
        loaded = b;
        forward.block(
            query + row_offset, output + row_offset, statistics + b * shape.channels + row,
            std::min(rows, shape.channels - row));
      }
    });
  });
  return {out, lse};
}

template <bool force_units>
std::tuple<Tensor, Tensor, Tensor> channel_attention_backward(
    const Tensor& given_d_out, const Tensor& given_q, const Tensor& given_k,
    const std::optional<Tensor>& given_v, const Tensor& given_out, const Tensor& given_lse) {
  const Shape shape = check(given_q, given_k, given_v);
  const at::ScalarType dtype = given_q.scalar_type();
  check_tensor("d_out", given_d_out, given_q.sizes(), dtype);
  check_tensor("out", given_out, given_q.sizes(), dtype);
  check_tensor("lse", given_lse, {shape.batch, shape.channels}, at::toOpMathType(dtype));
  const Tensor d_out = given_d_out.contiguous(), q = given_q.contiguous(), k = given_k.contiguous();
  const Tensor out = given_out.contiguous(), lse = given_lse.contiguous();
  const Tensor v = given_v ? given_v->contiguous() : Tensor();
  Tensor d_q = at::empty_like(q), d_k = at::empty_like(k);
  Tensor d_v = v.defined() ? at::empty_like(v) : at::empty({0}, k.options());
  if (shape.batch == 0) return {d_q, d_k, d_v};
  dispatch(dtype, shape, force_units, [&](auto implementation) {
    using Backward = typename decltype(implementation)::Backward;
    using S = typename decltype(implementation)::Storage;
    const S* d_output = d_out.const_data_ptr<S>();
    const S* query = q.const_data_ptr<S>();
    const S* key = k.const_data_ptr<S>();
    const S* value = v.defined() ? v.const_data_ptr<S>() : nullptr;
    const S* output = out.const_data_ptr<S>();
    const Compute<S>* statistics = lse.const_data_ptr<Compute<S>>();
    S* d_query = d_q.mutable_data_ptr<S>();
    S* d_key = d_k.mutable_data_ptr<S>();
    S* d_value = d_v.mutable_data_ptr<S>();

    const int64_t rows = Backward::rows_in_block(shape), blocks = divide_up(shape.channels, rows);
    const int64_t most_parts = divide_up(kFewSamples, shape.batch);
    const int64_t rows_in_part = divide_up(blocks, most_parts) * rows;
    const int64_t parts = divide_up(shape.channels, rows_in_part);
    const bool split = parts > 1;
    const auto sums_of_parts = [&](bool needed) {
      return at::empty(
          {needed ? shape.batch : 0, parts, shape.channels, shape.positions}, lse.options());
    };
    Tensor k_parts = sums_of_parts(split), v_parts = sums_of_parts(split && value);
    Compute<S>* key_parts = k_parts.mutable_data_ptr<Compute<S>>();
    Compute<S>* value_parts = v_parts.mutable_data_ptr<Compute<S>>();
    at::parallel_for(0, shape.batch * parts, 1, [&](int64_t begin, int64_t end) {
      const SubnormalsAreZero zero;
      Backward backward(shape, value == nullptr);
      for (int64_t task = begin; task < end; ++task) {
        const int64_t b = task / parts, first = task % parts * rows_in_part;
        const int64_t last = std::min(first + rows_in_part, shape.channels);
        const int64_t sample_offset = b * shape.sample(), part_offset = task * shape.sample();
        backward.load(key + sample_offset, value ? value + sample_offset : nullptr);
        for (int64_t row = first; row < last; row += rows) {
          const int64_t row_offset = sample_offset + row * shape.positions;
          backward.block(
              d_output + row_offset, query + row_offset, output + row_offset,
              statistics + b * shape.channels + row, d_query + row_offset,
              std::min(rows, last - row));
        }
        if (split) {
          backward.store(key_parts + part_offset, value_parts + part_offset);
        } else {
          backward.store(d_key + sample_offset, d_value + sample_offset);
        }
      }
    });
    if (split) {
      d_k.copy_(k_parts.sum(1));
      if (value) d_v.copy_(v_parts.sum(1));
    }
  });
  return {d_q, d_k, d_v};
}

}  // namespace
}  // namespace ltvr

TORCH_LIBRARY_IMPL(ltvr, CPU, m) {
  m.impl("channel_attention", &ltvr::channel_attention<false>);
  m.impl("channel_attention_backward", &ltvr::channel_attention_backward<false>);
  m.impl("_channel_attention_on_bf16_units", &ltvr::channel_attention<true>);
  m.impl("_channel_attention_backward_on_bf16_units", &ltvr::channel_attention_backward<true>);
}
