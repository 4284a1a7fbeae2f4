// Mask, split, attention addition and generation (eq. 3-6 and 11) and their gradients. The schemas
// and the meaning of the operators are in ltvr/afa/ops.py.
//
// Every channel is computed for itself, except for the softmax of mask_axis="channel". So a thread
// takes a few channels of the whole batch, called a slab: X_class and X_var of the slab stay in its
// cache until the real rows and the generated rows are both written. The backward adds gradients in
// the order of the plan's inverse index, which is the same in every run.

#include "checks.h"
#include "subnormals.h"
#include "vec.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <cstring>
#include <limits>
#include <optional>
#include <tuple>

namespace ltvr {
namespace {

using at::Tensor;

struct Shape {
  int64_t batch, channels, positions;

  int64_t sample() const { return channels * positions; }
  // Channels of a slab. X_class and X_var of the whole batch take at most 128 KiB in float32, half
  // of a small second-level cache.
  int64_t slab() const { return std::clamp<int64_t>(16384 / (batch * positions), 1, channels); }
  int64_t slabs() const { return divide_up(channels, slab()); }
};

struct Options {
  bool spatial;
  double gain;
  bool addition;
};

// ---- The softmax of the mask --------------------------------------------------------------------
//
// The logits are multiplied by log2(e) when they are made, so that exp2 takes the place of exp.
// Softmax over the channels first needs the maximum and the sum of whole columns; softmax over the
// positions finds all it needs in one row.

// logits[d, n] = log2(e) (1 + s[d]) x_att[d, n]
template <typename T>
void mask_logits(const T* x_att, const T* s, T* logits, int64_t channels, int64_t positions) {
  for (int64_t d = 0; d < channels; ++d, x_att += positions, logits += positions) {
    const T scale = (1 + s[d]) * static_cast<T>(kLog2e);
    for (int64_t n = 0; n < positions; ++n) logits[n] = scale * x_att[n];
  }
}

template <typename T>
void exp2_all(T* x, int64_t size) {
  at::vec::map([](Vec<T> value) { return exp2(value); }, x, x, size);
}

template <typename T>
void softmax_rows(T* logits, int64_t channels, int64_t positions) {
  for (int64_t d = 0; d < channels; ++d) {
    T* row = logits + d * positions;
    T highest = row[0];
    for (int64_t n = 1; n < positions; ++n) highest = std::max(highest, row[n]);
    for (int64_t n = 0; n < positions; ++n) row[n] -= highest;
  }
  exp2_all(logits, channels * positions);
  for (int64_t d = 0; d < channels; ++d) {
    T* row = logits + d * positions;
    T total = 0;
    for (int64_t n = 0; n < positions; ++n) total += row[n];
    const T scale = 1 / total;
    for (int64_t n = 0; n < positions; ++n) row[n] *= scale;
  }
}

// Finds, for each column n, what softmax over the channels takes:
// softmax = exp2(logits - highest[n]) scale[n]. Leaves exp2(logits - highest[n]) in `logits`.
template <typename T>
void column_statistics(T* logits, int64_t channels, int64_t positions, T* highest, T* scale) {
  std::copy_n(logits, positions, highest);
  std::fill_n(scale, positions, T(0));
  for (int64_t d = 1; d < channels; ++d) {
    const T* row = logits + d * positions;
    for (int64_t n = 0; n < positions; ++n) highest[n] = std::max(highest[n], row[n]);
  }
  for (int64_t d = 0; d < channels; ++d) {
    T* row = logits + d * positions;
    for (int64_t n = 0; n < positions; ++n) row[n] -= highest[n];
    exp2_all(row, positions);
    for (int64_t n = 0; n < positions; ++n) scale[n] += row[n];
  }
  for (int64_t n = 0; n < positions; ++n) scale[n] = 1 / scale[n];
}

template <typename T>
void softmax_columns(
    T* logits, int64_t channels, int64_t positions, const T* highest, const T* scale) {
  for (int64_t d = 0; d < channels; ++d) {
    T* row = logits + d * positions;
    for (int64_t n = 0; n < positions; ++n) row[n] -= highest[n];
  }
  exp2_all(logits, channels * positions);
  for (int64_t d = 0; d < channels; ++d) {
    T* row = logits + d * positions;
    for (int64_t n = 0; n < positions; ++n) row[n] *= scale[n];
  }
}

// ---- Forward ------------------------------------------------------------------------------------

template <typename S>
struct ForwardArguments {
  const S* x;  // null where the real rows are to be X_class alone
  const S* x_att;
  const Compute<S>* s;
  const S* v;
  const int64_t* class_index;
  const int64_t* variation_index;
  int64_t generated;
  S* features;
};

// Finds the column statistics of all samples: highest and scale, together [B, 2, N].
template <typename S, typename T = Compute<S>>
void batch_statistics(const ForwardArguments<S>& arguments, const Shape& shape, T* statistics) {
  at::parallel_for(0, shape.batch, 1, [&](int64_t begin, int64_t end) {
    const SubnormalsAreZero zero;
    Buffer<T> x_buffer(shape.sample()), logits(shape.sample());
    for (int64_t b = begin; b < end; ++b) {
      const T* x_att =
          converted(arguments.x_att + b * shape.sample(), x_buffer.get(), shape.sample());
      mask_logits(
          x_att, arguments.s + b * shape.channels, logits.get(), shape.channels, shape.positions);
      T* highest = statistics + b * 2 * shape.positions;
      column_statistics(
          logits.get(), shape.channels, shape.positions, highest, highest + shape.positions);
    }
  });
}

template <typename S>
void forward(const ForwardArguments<S>& arguments, const Shape& shape, const Options& options) {
  using T = Compute<S>;
  const int64_t positions = shape.positions, slab = shape.slab();
  const T gain = static_cast<T>(options.gain);
  Buffer<T> statistics(options.spatial ? 0 : shape.batch * 2 * positions);
  if (!options.spatial) batch_statistics(arguments, shape, statistics.get());

  at::parallel_for(0, shape.slabs(), 1, [&](int64_t begin, int64_t end) {
    const SubnormalsAreZero zero;
    const int64_t most = slab * positions;
    Buffer<T> class_related(shape.batch * most), variation(shape.batch * most);
    Buffer<T> x_buffer(most), v_buffer(most), row(most);
    for (int64_t d = begin * slab; d < std::min(end * slab, shape.channels); d += slab) {
      const int64_t channels = std::min(slab, shape.channels - d), size = channels * positions;
      for (int64_t b = 0; b < shape.batch; ++b) {
        const int64_t offset = b * shape.sample() + d * positions;
        const T* x_att = converted(arguments.x_att + offset, x_buffer.get(), size);
        const T* v = converted(arguments.v + offset, v_buffer.get(), size);
        T* class_row = class_related.get() + b * size;
        T* variation_row = variation.get() + b * size;
        mask_logits(x_att, arguments.s + b * shape.channels + d, class_row, channels, positions);
        if (options.spatial) {
          softmax_rows(class_row, channels, positions);
        } else {
          const T* highest = statistics.get() + b * 2 * positions;
          softmax_columns(class_row, channels, positions, highest, highest + positions);
        }
        for (int64_t i = 0; i < size; ++i) {
          class_row[i] *= gain * v[i];
          variation_row[i] = v[i] - class_row[i];
        }
        S* real = arguments.features + offset;
        if (arguments.x == nullptr) {
          at::vec::convert(class_row, real, size);
        } else if (!options.addition) {
          std::copy_n(arguments.x + offset, size, real);
        } else {
          const T* x = converted(arguments.x + offset, x_buffer.get(), size);
          for (int64_t i = 0; i < size; ++i) row.get()[i] = x[i] + class_row[i];
          at::vec::convert(row.get(), real, size);
        }
      }
      for (int64_t g = 0; g < arguments.generated; ++g) {
        const T* class_row = class_related.get() + arguments.class_index[g] * size;
        const T* variation_row = variation.get() + arguments.variation_index[g] * size;
        for (int64_t i = 0; i < size; ++i) row.get()[i] = class_row[i] + variation_row[i];
        S* made = arguments.features + (shape.batch + g) * shape.sample() + d * positions;
        at::vec::convert(row.get(), made, size);
      }
    }
  });
}

// ---- Backward -----------------------------------------------------------------------------------
//
// Let M be the mask, T = (1 + s) X_att its logits, and d_class and d_var the gradients of X_class
// and X_var, each the sum over all rows that the feature went into. Then
//   u = gain (d_class - d_var),  d_v = d_var + M u,  d_M = v u,
//   d_T = M (d_M - sum of M d_M over the axis of the softmax),
//   d_x_att = (1 + s) d_T,  d_s = rowsum(X_att d_T).

// The generated rows that sample b went into are rows[offsets[b] : offsets[b + 1]].
struct InverseIndex {
  const int64_t* offsets;
  const int64_t* rows;
};

template <typename S>
struct BackwardArguments {
  const S* d_features;
  const S* x_att;
  const Compute<S>* s;
  const S* v;
  InverseIndex class_of, variation_of;
  S* d_x_att;
  Compute<S>* d_s;
  S* d_v;
};

template <typename S>
class Backward {
  using T = Compute<S>;

 public:
  Backward(
      const BackwardArguments<S>& arguments, const Shape& shape, const Options& options,
      int64_t channels)
      : arguments_(arguments),
        shape_(shape),
        options_(options),
        x_att_buffer_(channels * shape.positions),
        v_buffer_(channels * shape.positions),
        gradient_buffer_(channels * shape.positions),
        d_class_sums_(channels * shape.positions),
        d_variation_sums_(channels * shape.positions),
        mask_buffer_(channels * shape.positions),
        column_statistics_(3 * shape.positions) {}

  // Computes the gradients of sample b in channels d to d + channels - 1. Where the softmax is over
  // channels, these must be all channels.
  void slab(int64_t b, int64_t d, int64_t channels) {
    const int64_t positions = shape_.positions, size = channels * positions;
    const int64_t offset = b * shape_.sample() + d * positions;
    const T gain = static_cast<T>(options_.gain);
    const T* x_att = converted(arguments_.x_att + offset, x_att_buffer_.get(), size);
    const T* v = converted(arguments_.v + offset, v_buffer_.get(), size);
    const T* s = arguments_.s + b * shape_.channels + d;
    T* mask = mask_buffer_.get();
    mask_logits(x_att, s, mask, channels, positions);
    if (options_.spatial) {
      softmax_rows(mask, channels, positions);
    } else {
      T* highest = column_statistics_.get();
      T* scale = highest + positions;
      column_statistics(mask, channels, positions, highest, scale);
      for (int64_t i = 0; i < channels; ++i) {
        for (int64_t n = 0; n < positions; ++n) mask[i * positions + n] *= scale[n];
      }
    }

    T* d_class = d_class_sums_.get();
    T* d_variation = d_variation_sums_.get();
    std::fill_n(d_class, size, T(0));
    std::fill_n(d_variation, size, T(0));
    if (options_.addition) add_row(b, d, size, d_class);
    gather(arguments_.class_of, b, d, size, d_class);
    gather(arguments_.variation_of, b, d, size, d_variation);
    // The results overwrite the sums: each element of a sum is read for the last time where the
    // element of the result is written.
    T* d_mask = d_class;
    T* d_v = d_variation;
    for (int64_t i = 0; i < size; ++i) {
      const T u = gain * (d_class[i] - d_variation[i]);
      d_v[i] = d_variation[i] + mask[i] * u;
      d_mask[i] = v[i] * u;
    }
    at::vec::convert(d_v, arguments_.d_v + offset, size);

    if (options_.spatial) {
      for (int64_t i = 0; i < channels; ++i) {
        T* row = d_mask + i * positions;
        const T* weights = mask + i * positions;
        const T mean = dot(weights, row, positions);
        for (int64_t n = 0; n < positions; ++n) row[n] = weights[n] * (row[n] - mean);
      }
    } else {
      T* mean = column_statistics_.get() + 2 * positions;
      std::fill_n(mean, positions, T(0));
      for (int64_t i = 0; i < channels; ++i) {
        for (int64_t n = 0; n < positions; ++n) {
          mean[n] += mask[i * positions + n] * d_mask[i * positions + n];
        }
      }
      for (int64_t i = 0; i < channels; ++i) {
        for (int64_t n = 0; n < positions; ++n) {
          d_mask[i * positions + n] =
              mask[i * positions + n] * (d_mask[i * positions + n] - mean[n]);
        }
      }
    }

    for (int64_t i = 0; i < channels; ++i) {
      T* row = d_mask + i * positions;
      arguments_.d_s[b * shape_.channels + d + i] = dot(x_att + i * positions, row, positions);
      for (int64_t n = 0; n < positions; ++n) row[n] *= 1 + s[i];
    }
    at::vec::convert(d_mask, arguments_.d_x_att + offset, size);
  }

 private:
  void add_row(int64_t row, int64_t d, int64_t size, T* target) {
    const S* source = arguments_.d_features + row * shape_.sample() + d * shape_.positions;
    const T* gradient = converted(source, gradient_buffer_.get(), size);
    for (int64_t i = 0; i < size; ++i) target[i] += gradient[i];
  }

  void gather(const InverseIndex& index, int64_t b, int64_t d, int64_t size, T* target) {
    for (int64_t entry = index.offsets[b]; entry < index.offsets[b + 1]; ++entry) {
      add_row(shape_.batch + index.rows[entry], d, size, target);
    }
  }

  BackwardArguments<S> arguments_;
  Shape shape_;
  Options options_;
  Buffer<T> x_att_buffer_, v_buffer_, gradient_buffer_, d_class_sums_, d_variation_sums_,
      mask_buffer_, column_statistics_;
};

template <typename S>
void backward(const BackwardArguments<S>& arguments, const Shape& shape, const Options& options) {
  if (!options.spatial) {
    at::parallel_for(0, shape.batch, 1, [&](int64_t begin, int64_t end) {
      const SubnormalsAreZero zero;
      Backward<S> sample(arguments, shape, options, shape.channels);
      for (int64_t b = begin; b < end; ++b) sample.slab(b, 0, shape.channels);
    });
    return;
  }
  // A thread takes a slab through all samples before the next slab. Each gradient is needed twice,
  // by the sample that gave the class and by the one that gave the variation; the second time it is
  // still in the cache.
  const int64_t slab = shape.slab();
  at::parallel_for(0, shape.slabs(), 1, [&](int64_t begin, int64_t end) {
    const SubnormalsAreZero zero;
    Backward<S> part(arguments, shape, options, slab);
    for (int64_t d = begin * slab; d < std::min(end * slab, shape.channels); d += slab) {
      for (int64_t b = 0; b < shape.batch; ++b) {
        part.slab(b, d, std::min(slab, shape.channels - d));
      }
    }
  });
}

// ---- The operators ------------------------------------------------------------------------------

Shape check(const Tensor& x_att, const Tensor& s, const Tensor& v, double gain) {
  check_features("v", v);
  check_tensor("x_att", x_att, v.sizes(), v.scalar_type());
  check_tensor("s", s, v.sizes().slice(0, 2), at::toOpMathType(v.scalar_type()));
  check_gain(gain);
  return {v.size(0), v.size(1), v.size(2)};
}

// The number of generated rows: the length of `index`, whose entries are checked elsewhere.
int64_t check_generated(const char* name, const Tensor& index) {
  TORCH_CHECK_VALUE(
      index.dim() == 1, name, ": expected one number a generated row, shape [G], got ",
      index.sizes());
  return index.size(0);
}

Tensor split_and_generate(
    const std::optional<Tensor>& given_x, const Tensor& given_x_att, const Tensor& given_s,
    const Tensor& given_v, const Tensor& given_class_index, const Tensor& given_variation_index,
    bool spatial, double gain, bool addition) {
  const Shape shape = check(given_x_att, given_s, given_v, gain);
  check_real_rows(addition, given_x.has_value());
  if (given_x) check_tensor("x", *given_x, given_v.sizes(), given_v.scalar_type());
  const int64_t generated = check_generated("class_index", given_class_index);
  check_tensor("class_index", given_class_index, {generated}, at::kLong);
  check_tensor("variation_index", given_variation_index, {generated}, at::kLong);
  const Tensor x_att = given_x_att.contiguous(), s = given_s.contiguous(), v = given_v.contiguous();
  const Tensor x = given_x ? given_x->contiguous() : Tensor();
  const Tensor class_index = given_class_index.contiguous();
  const Tensor variation_index = given_variation_index.contiguous();
  check_indices("class_index", class_index, shape.batch);
  check_indices("variation_index", variation_index, shape.batch);
  Tensor features =
      at::empty({shape.batch + generated, shape.channels, shape.positions}, v.options());
  if (shape.batch == 0) return features;
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kBFloat16, at::kHalf, v.scalar_type(), "split_and_generate", [&] {
        using S = scalar_t;
        forward<S>(
            {x.defined() ? x.const_data_ptr<S>() : nullptr, x_att.const_data_ptr<S>(),
             s.const_data_ptr<Compute<S>>(), v.const_data_ptr<S>(),
             class_index.const_data_ptr<int64_t>(), variation_index.const_data_ptr<int64_t>(),
             generated, features.mutable_data_ptr<S>()},
            shape, {spatial, gain, addition});
      });
  return features;
}

std::tuple<Tensor, Tensor, Tensor> split_and_generate_backward(
    const Tensor& given_d_features, const Tensor& given_x_att, const Tensor& given_s,
    const Tensor& given_v, const Tensor& given_class_offsets, const Tensor& given_class_rows,
    const Tensor& given_variation_offsets, const Tensor& given_variation_rows, bool spatial,
    double gain, bool addition) {
  const Shape shape = check(given_x_att, given_s, given_v, gain);
  const int64_t generated = check_generated("class_rows", given_class_rows);
  check_tensor(
      "d_features", given_d_features, {shape.batch + generated, shape.channels, shape.positions},
      given_v.scalar_type());
  check_tensor("class_offsets", given_class_offsets, {shape.batch + 1}, at::kLong);
  check_tensor("class_rows", given_class_rows, {generated}, at::kLong);
  check_tensor("variation_offsets", given_variation_offsets, {shape.batch + 1}, at::kLong);
  check_tensor("variation_rows", given_variation_rows, {generated}, at::kLong);
  const Tensor d_features = given_d_features.contiguous();
  const Tensor x_att = given_x_att.contiguous(), s = given_s.contiguous(), v = given_v.contiguous();
  const Tensor class_offsets = given_class_offsets.contiguous();
  const Tensor class_rows = given_class_rows.contiguous();
  const Tensor variation_offsets = given_variation_offsets.contiguous();
  const Tensor variation_rows = given_variation_rows.contiguous();
  check_offsets("class_offsets", class_offsets, generated);
  check_indices("class_rows", class_rows, generated);
  check_offsets("variation_offsets", variation_offsets, generated);
  check_indices("variation_rows", variation_rows, generated);
  Tensor d_x_att = at::empty_like(x_att), d_s = at::empty_like(s), d_v = at::empty_like(v);
  if (shape.batch == 0) return {d_x_att, d_s, d_v};
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kBFloat16, at::kHalf, v.scalar_type(), "split_and_generate_backward", [&] {
        using S = scalar_t;
        backward<S>(
            {d_features.const_data_ptr<S>(),
             x_att.const_data_ptr<S>(),
             s.const_data_ptr<Compute<S>>(),
             v.const_data_ptr<S>(),
             {class_offsets.const_data_ptr<int64_t>(), class_rows.const_data_ptr<int64_t>()},
             {variation_offsets.const_data_ptr<int64_t>(),
              variation_rows.const_data_ptr<int64_t>()},
             d_x_att.mutable_data_ptr<S>(),
             d_s.mutable_data_ptr<Compute<S>>(),
             d_v.mutable_data_ptr<S>()},
            shape, {spatial, gain, addition});
      });
  return {d_x_att, d_s, d_v};
}

}  // namespace
}  // namespace ltvr

TORCH_LIBRARY_IMPL(ltvr, CPU, m) {
  m.impl("split_and_generate", &ltvr::split_and_generate);
  m.impl("split_and_generate_backward", &ltvr::split_and_generate_backward);
}
