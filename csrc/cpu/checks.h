// What the operators refuse before they read: an argument that does not fit would otherwise lead to
// a read or a write outside a tensor. Each error is one line with the name of the argument, what it
// is and what was expected. ltvr/afa/checks.py states the same for the callers in Python.
//
// The dispatcher calls these operators for dense tensors on the CPU only, so neither the device nor
// the layout is checked here.
#pragma once

#include <ATen/OpMathType.h>
#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <limits>

namespace ltvr {

inline void check_tensor(
    const char* name, const at::Tensor& tensor, at::IntArrayRef shape, at::ScalarType dtype) {
  TORCH_CHECK_TYPE(
      tensor.scalar_type() == dtype, name, ": expected ", dtype, ", got ", tensor.scalar_type());
  TORCH_CHECK_VALUE(
      tensor.sizes() == shape, name, ": expected shape ", shape, ", got ", tensor.sizes());
}

// Checks the tensor that the others are held to.
inline void check_features(const char* name, const at::Tensor& x) {
  const at::ScalarType dtype = x.scalar_type();
  TORCH_CHECK_TYPE(
      dtype == at::kFloat || dtype == at::kDouble || dtype == at::kBFloat16 || dtype == at::kHalf,
      name, ": expected Float, Double, BFloat16 or Half, got ", dtype);
  TORCH_CHECK_VALUE(
      x.dim() == 3 && x.size(1) > 0 && x.size(2) > 0, name,
      ": expected shape [B, D, N] with D and N of at least 1, got ", x.sizes());
}

// Checks numbers [G] per generated row: `index` is contiguous, and all are below `end`.
inline void check_indices(const char* name, const at::Tensor& index, int64_t end) {
  const int64_t* indices = index.const_data_ptr<int64_t>();
  for (int64_t g = 0; g < index.numel(); ++g) {
    TORCH_CHECK_VALUE(
        indices[g] >= 0 && indices[g] < end, name, "[", g, "] = ", indices[g],
        ": expected an index >= 0 and below ", end);
  }
}

// Checks offsets [B + 1] into `rows` rows; `offsets` is contiguous.
inline void check_offsets(const char* name, const at::Tensor& offsets, int64_t rows) {
  const int64_t* offset = offsets.const_data_ptr<int64_t>();
  const int64_t last = offsets.numel() - 1;
  TORCH_CHECK_VALUE(offset[0] == 0, name, "[0] = ", offset[0], ": expected 0");
  for (int64_t b = 0; b < last; ++b) {
    TORCH_CHECK_VALUE(
        offset[b] <= offset[b + 1], name, "[", b + 1, "] = ", offset[b + 1],
        ": expected at least the offset before it, ", offset[b]);
  }
  TORCH_CHECK_VALUE(
      offset[last] == rows, name, "[", last, "] = ", offset[last], ": expected the ", rows,
      " generated rows");
}

// The gain is cast to the type that is computed in, float32 for most tensors.
inline void check_gain(double gain) {
  TORCH_CHECK_VALUE(
      gain >= 0 && gain <= std::numeric_limits<float>::max(), "gain = ", gain,
      ": expected a number >= 0 within the range of float32");
}

// The real rows contain X_class (`addition`) or X, or both.
inline void check_real_rows(bool addition, bool residual) {
  TORCH_CHECK_VALUE(
      addition || residual, "addition = False: expected True where the real rows are without X");
}

}  // namespace ltvr
