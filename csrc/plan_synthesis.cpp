// The plan of feature generation (eq. 9-11): for each generated row, the sample whose X_class and
// the sample whose X_var it is the sum of.
//
// A plan depends on the labels alone, so the host can draw it before the images reach the GPU. It
// is a pure function of its arguments: every random number is computed from the seed, the step and
// the number of the row, in one thread and in time O(B + G); donors by weight take the samples of a
// group for each of its rows. A batch may be cut into groups, each planned by itself, as if it were
// a batch; group g holds the samples g, g + groups, g + 2 groups. `plan_synthesis_reference` in
// ltvr/afa/planning_reference.py states the same in NumPy, and tests/afa/test_plan_synthesis.py
// checks that both give the same bits.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>
#include <torch/version.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

namespace ltvr {
namespace {

using at::Tensor;
using Plan = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// ---- Philox4x32-10 (Salmon et al., 2011) --------------------------------------------------------
//
// A random number generator without a state: a function of (seed, row, step) to four random words.

struct Draw {
  uint64_t class_bits;      // words 0 and 1: picks i among the samples of the class
  uint64_t variation_bits;  // words 2 and 3: picks j among the whole group
};

inline Draw philox(uint64_t seed, uint64_t row, uint64_t step) {
  auto low = [](uint64_t x) { return static_cast<uint32_t>(x); };
  auto high = [](uint64_t x) { return static_cast<uint32_t>(x >> 32); };

  uint32_t k0 = low(seed), k1 = high(seed);
  uint32_t c0 = low(row), c1 = high(row), c2 = low(step), c3 = high(step);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c0;
    const uint64_t p1 = uint64_t{0xCD9E8D57} * c2;
    c0 = high(p1) ^ c1 ^ k0;
    c1 = low(p1);
    c2 = high(p0) ^ c3 ^ k1;
    c3 = low(p0);
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return {uint64_t{c0} << 32 | c1, uint64_t{c2} << 32 | c3};
}

// Returns floor(bits * n / 2^64), an index below n. n < 2^32, so that the products fit 64 bits.
inline int64_t index_below(uint64_t bits, uint64_t n) {
  const uint64_t high = bits >> 32, low = bits & 0xFFFFFFFF;
  return static_cast<int64_t>((high * n + (low * n >> 32)) >> 32);
}

// ---- A group of the batch, by class -------------------------------------------------------------

struct ClassRun {
  int64_t label;
  int64_t start;  // its samples are order[start : start + count]
  int64_t count;  // f_c
  int64_t rows;   // G_c
};

// Returns the samples first, first + stride, ... below `batch` by ascending label, and in the order
// of the batch among samples of one label. A radix sort, one byte of the labels at a time from the
// lowest on: it makes no more passes than `max_label` has bytes.
std::vector<int64_t> sort_by_label(
    const int64_t* labels, int64_t batch, int64_t first, int64_t stride, int64_t max_label) {
  std::vector<int64_t> order;
  order.reserve(batch / stride + 1);
  for (int64_t b = first; b < batch; b += stride) order.push_back(b);
  std::vector<int64_t> sorted(order.size());

  for (int shift = 0; shift < 64 && (max_label >> shift) > 0; shift += 8) {
    std::array<int64_t, 257> next{};  // next[digit]: where the next sample of this digit goes
    auto digit = [=](int64_t b) { return static_cast<uint64_t>(labels[b]) >> shift & 0xFF; };
    for (const int64_t b : order) ++next[digit(b) + 1];
    for (int d = 0; d < 256; ++d) next[d + 1] += next[d];
    for (const int64_t b : order) sorted[next[digit(b)]++] = b;
    order.swap(sorted);
  }
  return order;
}

std::vector<ClassRun> runs_of_classes(const int64_t* labels, const std::vector<int64_t>& order) {
  std::vector<ClassRun> runs;
  const auto samples = static_cast<int64_t>(order.size());
  for (int64_t place = 0; place < samples; ++place) {
    const int64_t label = labels[order[place]];
    if (runs.empty() || runs.back().label != label) runs.push_back({label, place, 0, 0});
    ++runs.back().count;
  }
  return runs;
}

// ---- How many rows each class generates (eq. 9 and 10) ------------------------------------------

constexpr double kSlack = 1e-12;

// R_c = f_c^-alpha / sum f_c^-alpha,  G_c = ceil(gamma R_c B),  f_c being the samples of class c
// and B those of the group. Counts are taken relative to that of the rarest class. The largest
// weight is then 1, and the sum neither overflows nor vanishes.
void count_rows(std::vector<ClassRun>& runs, int64_t samples, double gamma, double alpha) {
  if (gamma == 0.0 || samples <= 1) return;  // one sample alone has no j != i

  int64_t rarest = samples, largest = 1;
  for (const auto& run : runs) {
    rarest = std::min(rarest, run.count);
    largest = std::max(largest, run.count);
  }

  // Many classes have the same count: exp and log run once a count, not once a class.
  std::vector<double> weight_of(largest + 1, -1.0);
  double sum = 0.0;
  for (const auto& run : runs) {
    double& weight = weight_of[run.count];
    if (weight < 0.0) {
      weight = std::exp(-alpha * std::log(static_cast<double>(run.count) / rarest));
    }
    sum += weight;
  }

  // The slack keeps rounding errors from adding a row: of 128 samples in four equal classes, each
  // gets 32 rows, not 33. R_c is positive, even where exp returns 0, so every class that is present
  // generates at least one row.
  for (auto& run : runs) {
    const double exact = gamma * (weight_of[run.count] / sum) * static_cast<double>(samples);
    run.rows = std::max<int64_t>(1, static_cast<int64_t>(std::ceil(exact * (1.0 - kSlack))));
  }
}

// ---- Draws by the weights of classes, which may take the place of eq. 9-11 ----------------------

// Returns the first place at which the sum of the weights so far, `sums`, exceeds its share of the
// bits. Not all weights are 0. One of 0 adds nothing, so that its place is never the first.
int64_t place_by_weight(uint64_t bits, const std::vector<double>& sums) {
  const double wanted = static_cast<double>(bits >> 11) * 0x1p-53 * sums.back();
  return std::upper_bound(sums.begin(), sums.end(), wanted) - sums.begin();
}

// Returns ceil(gamma B) for a group of B samples whose weights have these sums, and 0 if all are 0.
int64_t rows_by_weight(const std::vector<double>& sums, double gamma) {
  if (gamma == 0.0 || sums.size() <= 1 || sums.back() == 0.0) return 0;
  const double exact = gamma * static_cast<double>(sums.size());
  return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(exact * (1.0 - kSlack))));
}

// ---- The inverse index of the backward ----------------------------------------------------------

// Returns offsets and rows, such that rows[offsets[b] : offsets[b + 1]] are all g with
// index[g] == b, in ascending order. The backward then gathers in this order, which is the same in
// every run, where scattering would need atomic additions in any order.
std::pair<Tensor, Tensor> invert(const Tensor& index, int64_t batch) {
  Tensor offsets = at::empty({batch + 1}, index.options());
  Tensor rows = at::empty_like(index);
  const int64_t generated = index.numel();
  const int64_t* from = index.const_data_ptr<int64_t>();
  int64_t* offset = offsets.mutable_data_ptr<int64_t>();
  int64_t* row = rows.mutable_data_ptr<int64_t>();

  std::fill(offset, offset + batch + 1, 0);
  for (int64_t g = 0; g < generated; ++g) ++offset[from[g] + 1];
  for (int64_t b = 0; b < batch; ++b) offset[b + 1] += offset[b];
  std::vector<int64_t> next(offset, offset + batch);
  for (int64_t g = 0; g < generated; ++g) row[next[from[g]]++] = g;
  return {offsets, rows};
}

// ---- The op -------------------------------------------------------------------------------------

constexpr int64_t kMostGenerated = int64_t{1} << 24;  // as in ltvr/afa/plan.py

void check_arguments(
    const Tensor& labels, double gamma, double alpha, int64_t step, int64_t groups) {
  TORCH_CHECK_TYPE(
      labels.scalar_type() == at::kLong, "labels: expected int64, got ", labels.scalar_type());
  TORCH_CHECK_VALUE(
      labels.dim() == 1, "labels: expected one label a sample, shape [B], got shape ",
      labels.sizes());
  TORCH_CHECK_VALUE(
      std::isfinite(gamma) && gamma >= 0.0, "gamma = ", gamma,
      ": expected a finite number >= 0 (generated rows per real sample)");
  TORCH_CHECK_VALUE(
      std::isfinite(alpha) && alpha >= 0.0, "alpha = ", alpha,
      ": expected a finite number >= 0 (0 treats all classes alike)");
  TORCH_CHECK_VALUE(step >= 0, "step = ", step, ": expected an integer >= 0");
  TORCH_CHECK_VALUE(groups >= 1, "groups = ", groups, ": expected an integer >= 1");

  const int64_t batch = labels.numel();
  TORCH_CHECK_VALUE(
      batch <= std::numeric_limits<uint32_t>::max(), "labels: a batch of ", batch,
      " samples is more than an index of 32 bits can draw from");
  TORCH_CHECK_VALUE(
      gamma * static_cast<double>(batch) <= kMostGenerated, "gamma = ", gamma, ": with a batch of ",
      batch, " this asks for more than 2^24 generated rows; pass a smaller gamma");
}

// Returns the largest label, -1 for an empty batch.
int64_t check_labels(const Tensor& labels) {
  const int64_t* label = labels.const_data_ptr<int64_t>();
  int64_t max_label = -1;
  for (int64_t b = 0; b < labels.numel(); ++b) {
    TORCH_CHECK_VALUE(
        label[b] >= 0, "labels[", b, "] = ", label[b],
        ": expected a class index >= 0; leave ignored samples out of the batch");
    max_label = std::max(max_label, label[b]);
  }
  return max_label;
}

// Weights by class, or of each class by class, or none.
struct Weights {
  Weights(
      const char* name, const std::optional<Tensor>& given, int64_t most_dimensions,
      const std::vector<int64_t>& present) {
    if (!given) return;
    TORCH_CHECK_TYPE(
        given->scalar_type() == at::kDouble, name, ": expected float64, got ",
        given->scalar_type());
    classes = given->dim() > 0 ? given->size(0) : 0;
    TORCH_CHECK_VALUE(
        given->dim() >= 1 && given->dim() <= most_dimensions && given->size(-1) == classes, name,
        ": expected ", most_dimensions == 1 ? "[C]" : "[C] or [C, C]", ", got shape ",
        given->sizes());
    row = given->dim() == 2 ? classes : 0;
    table = given->contiguous();
    values = table.const_data_ptr<double>();
    TORCH_CHECK_VALUE(
        present.empty() || present.back() < classes, name, " of ", classes,
        " classes: expected more than the label ", present.back());
    // Of thousands of classes a batch reads few.
    for (size_t k = 0; k < (row == 0 ? 1 : present.size()); ++k) {
      for (const int64_t label : present) {
        const double value = values[row == 0 ? label : present[k] * row + label];
        TORCH_CHECK_VALUE(
            value == 0.0 || (value >= kLeastWeight && value <= kMostWeight), name,
            ": expected 0, or numbers from ", kLeastWeight, " to ", kMostWeight, ", got ", value);
      }
    }
  }

  // Of such numbers the sum over any batch is finite, and a share of it is smaller than itself.
  static constexpr double kLeastWeight = 1e-100, kMostWeight = 1e100;
  Tensor table;
  const double* values = nullptr;
  int64_t classes = 0;
  int64_t row = 0;  // from the weights of one class to those of the next: 0 where all have the same
};

// A group of the samples first, first + stride, ... of the batch, and the rows it generates.
struct Group {
  std::vector<int64_t> order;  // its samples by label
  std::vector<ClassRun> runs;  // of them
  std::vector<double> sums;    // of the weights of `order` so far; empty where eq. 9 and 10 hold
  int64_t rows = 0;
};

// Draws i of every row of a group: within the class of the row (eq. 11), or by weight and then in
// the order of the group, so that the rows of a class come together in either case.
std::vector<int64_t> draw_class_features(const Group& group, const uint64_t* bits) {
  std::vector<int64_t> drawn;
  drawn.reserve(group.rows);
  if (group.sums.empty()) {
    for (const ClassRun& run : group.runs) {
      for (int64_t row = 0; row < run.rows; ++row) {
        drawn.push_back(group.order[run.start + index_below(bits[drawn.size()], run.count)]);
      }
    }
    return drawn;
  }
  for (int64_t row = 0; row < group.rows; ++row) {
    drawn.push_back(place_by_weight(bits[row], group.sums));
  }
  std::sort(drawn.begin(), drawn.end());
  for (int64_t& place : drawn) place = group.order[place];
  return drawn;
}

// Draws j of a row: uniform over the others of the group (eq. 11), or by weight; `sums` is memory
// for the sums of these.
int64_t draw_variation(
    uint64_t bits, int64_t i, int64_t first, int64_t stride, int64_t samples, const int64_t* label,
    const Weights& donors, std::vector<double>& sums) {
  if (donors.values != nullptr) {
    const double* of_class = donors.values + label[i] * donors.row;
    double sum = 0.0;
    sums.clear();
    for (int64_t b = first; b < first + stride * samples; b += stride) {
      sums.push_back(sum += b == i ? 0.0 : of_class[label[b]]);
    }
    if (sum > 0.0) return first + stride * place_by_weight(bits, sums);
  }
  const int64_t j = first + stride * index_below(bits, samples - 1);
  return j >= i ? j + stride : j;  // steps over i
}

Plan plan_synthesis(
    const Tensor& given_labels, double gamma, double alpha, int64_t seed, int64_t step,
    int64_t given_groups, const std::optional<Tensor>& class_weights,
    const std::optional<Tensor>& donor_weights) {
  check_arguments(given_labels, gamma, alpha, step, given_groups);
  const Tensor labels = given_labels.contiguous();
  const int64_t max_label = check_labels(labels);
  const int64_t batch = labels.numel();
  const int64_t* label = labels.const_data_ptr<int64_t>();
  std::vector<int64_t> present;  // the classes of the batch, ascending
  if (class_weights || donor_weights) {
    for (const auto& run : runs_of_classes(label, sort_by_label(label, batch, 0, 1, max_label))) {
      present.push_back(run.label);
    }
  }
  const Weights classes("class_weights", class_weights, 1, present);
  const Weights donors("donor_weights", donor_weights, 2, present);
  const int64_t groups = std::min(given_groups, batch);  // no empty ones

  std::vector<Group> planned(groups);
  int64_t generated = 0;
  for (size_t first = 0; first < planned.size(); ++first) {
    Group& group = planned[first];
    group.order = sort_by_label(label, batch, static_cast<int64_t>(first), groups, max_label);
    if (classes.values != nullptr) {
      double sum = 0.0;
      for (const int64_t b : group.order) group.sums.push_back(sum += classes.values[label[b]]);
      group.rows = rows_by_weight(group.sums, gamma);
    } else {
      group.runs = runs_of_classes(label, group.order);
      count_rows(group.runs, static_cast<int64_t>(group.order.size()), gamma, alpha);
      for (const auto& run : group.runs) group.rows += run.rows;
    }
    generated += group.rows;
  }

  const auto options = labels.options();
  Tensor class_index = at::empty({generated}, options);
  Tensor variation_index = at::empty({generated}, options);
  Tensor generated_labels = at::empty({generated}, options);
  int64_t* i_of = class_index.mutable_data_ptr<int64_t>();
  int64_t* j_of = variation_index.mutable_data_ptr<int64_t>();
  int64_t* label_of = generated_labels.mutable_data_ptr<int64_t>();

  // The draws come first, in a loop of their own, which the compiler can vectorise.
  std::vector<uint64_t> class_bits(generated), variation_bits(generated);
  for (int64_t g = 0; g < generated; ++g) {
    const Draw draw =
        philox(static_cast<uint64_t>(seed), static_cast<uint64_t>(g), static_cast<uint64_t>(step));
    class_bits[g] = draw.class_bits;
    variation_bits[g] = draw.variation_bits;
  }

  // Eq. 11: X_gen[g] = X_class[i] + X_var[j].
  int64_t g = 0;
  std::vector<double> sums;
  for (size_t first = 0; first < planned.size(); ++first) {
    const Group& group = planned[first];
    const auto samples = static_cast<int64_t>(group.order.size());
    for (const int64_t i : draw_class_features(group, class_bits.data() + g)) {
      i_of[g] = i;
      j_of[g] = draw_variation(
          variation_bits[g], i, static_cast<int64_t>(first), groups, samples, label, donors, sums);
      label_of[g] = label[i];
      ++g;
    }
  }

  auto [class_offsets, class_rows] = invert(class_index, batch);
  auto [variation_offsets, variation_rows] = invert(variation_index, batch);
  return {class_index, variation_index,   generated_labels, class_offsets,
          class_rows,  variation_offsets, variation_rows};
}

}  // namespace
}  // namespace ltvr

// The schema lives in ltvr/afa/ops.py.
TORCH_LIBRARY_IMPL(ltvr, CPU, m) {
  m.impl("plan_synthesis", &ltvr::plan_synthesis);
}

// Where the library does not load, ltvr/afa/ops.py reads this string from its bytes.
extern "C" const char ltvr_built_for_torch[] = "ltvr built for torch " TORCH_VERSION;
