// The BitLinear layer of arXiv:2504.03387 in integer arithmetic: 2-bit weights times 8-bit inputs.
//
// Per row of the input (a token), with levels = Q_b and one weight scale beta for the layer:
//
//     s   = (1 / max(absmax(x), 1e-8)) * levels        two roundings, as torch computes  gamma.reciprocal() * levels
//     q   = clip(rint(x * s), -levels, levels)         8-bit codes of the row (equation 2)
//     acc = sum_k t[n][k] q[k]                         t in {-1, 0, 1}: exact in 32-bit integers
//     y   = float(acc) * (beta / s) + bias             three separate roundings (equation 3)
//
// The integer sum has one value whatever its order, so the result cannot depend on threads, tiles, batch or instruction set.
// The float operations around it are written one by one, and the build forbids their contraction into fused multiply-adds,
// so that every output equals, to the bit, the one that bithep_lib.bitlinear computes with torch operations.
//
// How the weights lie in memory. Stored are the codes c = t + 1 in {0, 1, 2}, two bits each, so that
// sum t q = sum c q - sum q needs no sign. Sixteen outputs (a panel) times sixteen inputs (a block) make 64 bytes:
//
//     byte 4 o + r of the block, bits 2 i and 2 i + 1:   code of output o, input 4 i + r          (o < 16, i < 4, r < 4)
//
// Shifting the block right by 2 i and keeping two bits of each byte gives, for every output, its codes for the four
// neighbouring inputs 4 i ... 4 i + 3 as four bytes: the operand of the processors' four-way byte products. The sixteen outputs
// need no horizontal sums. Both dimensions are padded to 16 with the code of a zero weight.

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace {

constexpr int PANEL = 16;                             // outputs computed together
constexpr int BLOCK = 16;                             // inputs in a block of codes
constexpr int GROUPS = 4;                             // groups of four inputs in a block
constexpr int PACKED_BLOCK = PANEL * BLOCK / 4;       // bytes, four codes each
constexpr int UNPACKED_BLOCK = PANEL * BLOCK;         // bytes, one code each
constexpr float EPS = 1e-8f;                          // bithep_lib.bitlinear.EPS
constexpr uint32_t INFINITY_BITS = 0x7f800000u;
constexpr uint32_t ZERO_WEIGHTS = 0x55555555u;        // sixteen codes 1

// A view of floats as integers that the compiler may not assume unrelated to them.
using aliased_uint32 = uint32_t __attribute__((may_alias));

constexpr int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// ---- one instruction set: sixteen outputs times four inputs --------------------------------------------------------------
//
// Codes   the codes of one group: 16 outputs x 4 inputs, a byte each
// Sums    16 running sums of c q; add() takes one group and the four inputs as one 32-bit word
// Totals  16 sums in 32 bits, and their conversion to the layer's output

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)

constexpr char INSTRUCTIONS[] = "avx512_vnni";
constexpr int TILE_ROWS = 12;  // rows that share each load of the codes; 12 sums hide the latency of the product

struct Codes {
    __m512i all;
    static Codes load(const uint8_t* p) { return {_mm512_load_si512(p)}; }
    void store(uint8_t* p) const { _mm512_store_si512(p, all); }
    static Codes unpack(const uint8_t* block, int group) {
        const __m512i bytes = _mm512_loadu_si512(block);
        return {_mm512_and_si512(_mm512_srli_epi16(bytes, 2 * group), _mm512_set1_epi8(3))};
    }
};

struct Sums {
    static constexpr int MAX_BLOCKS = 1 << 24;  // 32-bit sums: no limit in practice
    __m512i all = _mm512_setzero_si512();
    void add(Codes codes, int32_t inputs) { all = _mm512_dpbusd_epi32(all, codes.all, _mm512_set1_epi32(inputs)); }
    void fix_order() {}
};

struct Totals {
    __m512i all = _mm512_setzero_si512();
    void add(const Sums& sums) { all = _mm512_add_epi32(all, sums.all); }
    void finish(int32_t sum_q, float scale, const float* bias, bool relu, float* y) const {
        const __m512 sum = _mm512_cvtepi32_ps(_mm512_sub_epi32(all, _mm512_set1_epi32(sum_q)));
        __m512 out = _mm512_add_ps(_mm512_mul_ps(sum, _mm512_set1_ps(scale)), _mm512_loadu_ps(bias));
        if (relu) out = _mm512_max_ps(_mm512_setzero_ps(), out);  // this order of arguments keeps a NaN
        _mm512_storeu_ps(y, out);
    }
};

#else

constexpr int TILE_ROWS = 6;  // 12 sums in the 16 registers

struct Codes {
    __m256i low, high;  // outputs 0-7, outputs 8-15
    static Codes load(const uint8_t* p) {
        return {_mm256_load_si256((const __m256i*)p), _mm256_load_si256((const __m256i*)(p + 32))};
    }
    void store(uint8_t* p) const {
        _mm256_store_si256((__m256i*)p, low);
        _mm256_store_si256((__m256i*)(p + 32), high);
    }
    static Codes unpack(const uint8_t* block, int group) {
        const __m256i two_bits = _mm256_set1_epi8(3);
        const __m256i a = _mm256_loadu_si256((const __m256i*)block), b = _mm256_loadu_si256((const __m256i*)(block + 32));
        return {_mm256_and_si256(_mm256_srli_epi16(a, 2 * group), two_bits),
                _mm256_and_si256(_mm256_srli_epi16(b, 2 * group), two_bits)};
    }
};

#ifdef __AVXVNNI__

constexpr char INSTRUCTIONS[] = "avx_vnni";

struct Sums {
    static constexpr int MAX_BLOCKS = 1 << 24;  // 32-bit sums: no limit in practice
    __m256i low = _mm256_setzero_si256(), high = _mm256_setzero_si256();
    void add(Codes codes, int32_t inputs) {
        const __m256i q = _mm256_set1_epi32(inputs);
        low = _mm256_dpbusd_avx_epi32(low, codes.low, q);
        high = _mm256_dpbusd_avx_epi32(high, codes.high, q);
    }
    void fix_order() {}
    __m256i wide_low() const { return low; }
    __m256i wide_high() const { return high; }
};

#else

constexpr char INSTRUCTIONS[] = "avx2";

// Without a four-way product the sums live in 16-bit lanes. Each group adds two products, at most 2 * 2 * 127 = 508, to a lane:
// 64 groups (16 blocks) stay below 2^15. Other kernels add more of them before widening and overflow on saturated rows.
struct Sums {
    static constexpr int MAX_BLOCKS = 16;
    __m256i low = _mm256_setzero_si256(), high = _mm256_setzero_si256();
    void add(Codes codes, int32_t inputs) {
        const __m256i q = _mm256_set1_epi32(inputs);
        low = _mm256_add_epi16(low, _mm256_maddubs_epi16(codes.low, q));
        high = _mm256_add_epi16(high, _mm256_maddubs_epi16(codes.high, q));
    }
    // Empty, but it fixes the order: GCC 12 would form the products of all groups before it adds any, and run out of registers.
    void fix_order() { asm("" : "+x"(low), "+x"(high)); }
    __m256i wide_low() const { return _mm256_madd_epi16(low, _mm256_set1_epi16(1)); }
    __m256i wide_high() const { return _mm256_madd_epi16(high, _mm256_set1_epi16(1)); }
};

#endif

struct Totals {
    __m256i low = _mm256_setzero_si256(), high = _mm256_setzero_si256();
    void add(const Sums& sums) {
        low = _mm256_add_epi32(low, sums.wide_low());
        high = _mm256_add_epi32(high, sums.wide_high());
    }
    static void finish_half(__m256i half, int32_t sum_q, float scale, const float* bias, bool relu, float* y) {
        const __m256 sum = _mm256_cvtepi32_ps(_mm256_sub_epi32(half, _mm256_set1_epi32(sum_q)));
        __m256 out = _mm256_add_ps(_mm256_mul_ps(sum, _mm256_set1_ps(scale)), _mm256_loadu_ps(bias));
        if (relu) out = _mm256_max_ps(_mm256_setzero_ps(), out);  // this order of arguments keeps a NaN
        _mm256_storeu_ps(y, out);
    }
    void finish(int32_t sum_q, float scale, const float* bias, bool relu, float* y) const {
        finish_half(low, sum_q, scale, bias, relu, y);
        finish_half(high, sum_q, scale, bias + 8, relu, y + 8);
    }
};

#endif

// ---- the tile: a few rows times one panel --------------------------------------------------------------------------------

// Where a tile reads its codes: from the packed weights (few rows: unpack on the way) or from an unpacked copy in the cache.
struct Packed {
    static constexpr int BYTES = PACKED_BLOCK;
    static Codes group(const uint8_t* block, int g) { return Codes::unpack(block, g); }
};
struct Unpacked {
    static constexpr int BYTES = UNPACKED_BLOCK;
    static Codes group(const uint8_t* block, int g) { return Codes::load(block + g * PANEL * 4); }
};

struct Epilogue {
    const int32_t* sum_q;  // per row: sum of its codes
    const float* scale;    // per row: beta / s
    const float* bias;     // 16 values of this panel (zeros where there is none)
    bool relu;
    int outputs;           // valid outputs of this panel, 1 to 16
};

inline int32_t four_inputs(const int8_t* q) {
    int32_t word;
    std::memcpy(&word, q, 4);
    return word;
}

template <int ROWS, class Source>
void tile(const int8_t* q, int64_t q_stride, const uint8_t* panel, int blocks, const Epilogue& end, float* y, int64_t y_stride) {
    // One row alone would wait for each product before adding the next: it keeps one sum for each group instead.
    constexpr int CHAINS = ROWS == 1 ? 4 : ROWS == 2 ? 2 : 1;
    Totals totals[ROWS];
    for (int first = 0; first < blocks;) {
        const int last = std::min(blocks, first + Sums::MAX_BLOCKS);
        Sums sums[ROWS][CHAINS];
        for (int b = first; b < last; ++b) {
            const uint8_t* block = panel + (int64_t)b * Source::BYTES;
            const int8_t* inputs = q + (int64_t)b * BLOCK;
#pragma GCC unroll 4
            for (int g = 0; g < GROUPS; ++g) {
                const Codes codes = Source::group(block, g);
#pragma GCC unroll 16
                for (int r = 0; r < ROWS; ++r) {
                    sums[r][g % CHAINS].add(codes, four_inputs(inputs + r * q_stride + 4 * g));
                    if (CHAINS == 1) sums[r][0].fix_order();
                }
            }
        }
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; ++r) {
#pragma GCC unroll 4
            for (int c = 0; c < CHAINS; ++c) totals[r].add(sums[r][c]);
        }
        first = last;
    }
    if (end.outputs == PANEL) {
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; ++r) totals[r].finish(end.sum_q[r], end.scale[r], end.bias, end.relu, y + r * y_stride);
        return;
    }
    for (int r = 0; r < ROWS; ++r) {
        float out[PANEL];
        totals[r].finish(end.sum_q[r], end.scale[r], end.bias, end.relu, out);
        std::memcpy(y + r * y_stride, out, end.outputs * sizeof(float));
    }
}

// `rows` rows, 1 <= rows <= LIMIT: picks the instance of the tile that has exactly as many.
template <class Source, int LIMIT = TILE_ROWS>
void tile_of(int rows, const int8_t* q, int64_t q_stride, const uint8_t* panel, int blocks, const Epilogue& end, float* y,
             int64_t y_stride) {
    if constexpr (LIMIT > 1)
        if (rows < LIMIT) return tile_of<Source, LIMIT - 1>(rows, q, q_stride, panel, blocks, end, y, y_stride);
    tile<LIMIT, Source>(q, q_stride, panel, blocks, end, y, y_stride);
}

// ---- quantisers ----------------------------------------------------------------------------------------------------------

// Equation 2 for one row: the codes q (zero up to the padded length), their sum, and the scale s. A row with a NaN or an
// infinity gets s = NaN, which makes its outputs NaN. With fixed_scale > 0 the scale is that constant.
float quantise_row(const float* x, int in, int padded, float levels, float fixed_scale, int8_t* q, int32_t* sum_q) {
    // Bit patterns of |x| are ordered as the numbers, with infinity and the NaNs on top: one pass finds absmax and faults.
    const aliased_uint32* bits = (const aliased_uint32*)x;
    uint32_t top = 0;
    for (int k = 0; k < in; ++k) top = std::max(top, bits[k] & 0x7fffffffu);
    if (top >= INFINITY_BITS) {
        std::memset(q, 0, padded);
        *sum_q = 0;
        return std::numeric_limits<float>::quiet_NaN();
    }
    float absmax;
    std::memcpy(&absmax, &top, sizeof absmax);
    float s = fixed_scale;
    if (s <= 0) s = (1.0f / std::max(absmax, EPS)) * levels;
    int32_t sum = 0;
    for (int k = 0; k < in; ++k) {
        const float code = std::rint(x[k] * s);  // half to even
        const int32_t integer = (int32_t)std::min(std::max(code, -levels), levels);
        q[k] = (int8_t)integer;
        sum += integer;
    }
    std::memset(q + in, 0, padded - in);
    *sum_q = sum;
    return s;
}

// Equation 1 for one row of weights: codes c = t + 1, one byte each. Binary: t = sign(w - mean), sign(0) = +1.
void weight_codes(const float* w, int in, float beta, const float* mean, uint8_t* codes) {
    if (mean)
        for (int k = 0; k < in; ++k) codes[k] = w[k] >= *mean ? 2 : 0;
    else
        for (int k = 0; k < in; ++k) {
            const float t = std::rint(w[k] / beta);
            codes[k] = (uint8_t)(int32_t)(std::min(std::max(t, -1.0f), 1.0f) + 1.0f);
        }
}

// Sixteen codes, one byte each, to one 32-bit word and back: group i moves to the bits 2 i of the four bytes.
uint32_t pack_word(const uint8_t* codes) {
    uint32_t group[GROUPS];
    std::memcpy(group, codes, sizeof group);
    return group[0] | group[1] << 2 | group[2] << 4 | group[3] << 6;
}
void unpack_word(uint32_t word, uint8_t* codes) {
    const uint32_t group[GROUPS] = {word & 0x03030303u, word >> 2 & 0x03030303u, word >> 4 & 0x03030303u, word >> 6 & 0x03030303u};
    std::memcpy(codes, group, sizeof group);
}

void unpack_panel(const uint8_t* packed, int blocks, uint8_t* unpacked) {
    for (int b = 0; b < blocks; ++b, packed += PACKED_BLOCK, unpacked += UNPACKED_BLOCK)
#pragma GCC unroll 4
        for (int g = 0; g < GROUPS; ++g) Codes::unpack(packed, g).store(unpacked + g * PANEL * 4);
}

// ---- a layer -------------------------------------------------------------------------------------------------------------

// Memory of one thread that grows and is used again.
struct Scratch {
    void* data = nullptr;
    size_t bytes = 0;
    ~Scratch() { std::free(data); }
    template <class T> T* get(size_t count) {
        if (count * sizeof(T) > bytes) {
            std::free(data);
            bytes = round_up(count * sizeof(T), 64);
            data = std::aligned_alloc(64, bytes);
            if (!data) std::abort();
        }
        return (T*)data;
    }
};

}  // namespace

// One layer as Python describes it (bithep_lib/native/library.py mirrors the fields).
struct Layer {
    const uint8_t* codes;  // packed, see the top
    const float* beta;     // one value
    const float* bias;     // out values, or null
    int32_t in, out;
    float levels;          // Q_b, at most 127
    float fixed_scale;     // s of every row, or 0: one scale for each row
    int32_t relu;          // apply max(0, y)
};

namespace {

// Outputs [16 first, 16 last) of a layer for some rows. q_kept (rows x padded inputs) and s_kept, if given, receive codes and scales.
void run_layer(const Layer& layer, const float* x, int64_t rows, float* y, int8_t* q_kept, float* s_kept, int first, int last) {
    static thread_local Scratch q_memory, sum_memory, scale_memory, panel_memory;
    const int padded = round_up(layer.in, BLOCK), blocks = padded / BLOCK;
    const int64_t panel_bytes = (int64_t)padded * PANEL;
    // A weight scale that is not finite makes every output NaN, as in torch, where 0 * infinity enters each sum.
    const float beta = std::isfinite(*layer.beta) ? *layer.beta : std::numeric_limits<float>::quiet_NaN();

    // Few rows read each code once: unpack on the way. Otherwise unpack a panel once for many rows: all panels at once when they
    // fit the first-level caches, one after the other for a larger block of rows when they do not.
    const bool unpack = rows >= TILE_ROWS, resident = unpack && (last - first) * panel_bytes <= 32 * 1024;
    const int64_t cache = resident ? 12 * 1024 : 160 * 1024;
    const int64_t row_block = std::min(round_up(rows, TILE_ROWS), std::max<int64_t>(2, cache / padded / TILE_ROWS) * TILE_ROWS);
    int8_t* q_block = q_kept ? nullptr : q_memory.get<int8_t>(row_block * padded);
    int32_t* sum_q = sum_memory.get<int32_t>(row_block);
    float* scale = scale_memory.get<float>(row_block);
    uint8_t* unpacked = unpack ? panel_memory.get<uint8_t>((resident ? last - first : 1) * panel_bytes) : nullptr;
    const auto packed_panel = [&](int p) { return layer.codes + (int64_t)p * blocks * PACKED_BLOCK; };
    if (resident)
        for (int p = first; p < last; ++p) unpack_panel(packed_panel(p), blocks, unpacked + (p - first) * panel_bytes);

    for (int64_t start = 0; start < rows; start += row_block) {
        const int64_t count = std::min(row_block, rows - start);
        int8_t* q = q_kept ? q_kept + start * padded : q_block;
        for (int64_t r = 0; r < count; ++r) {
            const float* row = x + (start + r) * layer.in;
            const float s = quantise_row(row, layer.in, padded, layer.levels, layer.fixed_scale, q + r * padded, sum_q + r);
            scale[r] = beta / s;
            if (s_kept) s_kept[start + r] = s;
        }
        for (int p = first; p < last; ++p) {
            const int outputs = std::min(PANEL, layer.out - p * PANEL);
            float bias[PANEL] = {};
            if (layer.bias) std::memcpy(bias, layer.bias + p * PANEL, outputs * sizeof(float));
            const uint8_t* codes = unpack ? unpacked + (resident ? (p - first) * panel_bytes : 0) : packed_panel(p);
            if (unpack && !resident) unpack_panel(packed_panel(p), blocks, unpacked);
            for (int64_t r = 0; r < count; r += TILE_ROWS) {
                const Epilogue end{sum_q + r, scale + r, bias, layer.relu != 0, outputs};
                float* out = y + (start + r) * layer.out + p * PANEL;
                const int tile_rows = (int)std::min<int64_t>(TILE_ROWS, count - r);
                if (unpack) tile_of<Unpacked>(tile_rows, q + r * padded, padded, codes, blocks, end, out, layer.out);
                else tile_of<Packed>(tile_rows, q + r * padded, padded, codes, blocks, end, out, layer.out);
            }
        }
    }
}

int panels(const Layer& layer) { return (int)round_up(layer.out, PANEL) / PANEL; }

// Some rows through all layers, on this thread.
void run_network(const Layer* layers, int n_layers, const float* x, int64_t rows, float* y, int8_t* q_kept, float* s_kept) {
    static thread_local Scratch hidden[2];
    for (int i = 0; i < n_layers; ++i) {
        float* out = i + 1 == n_layers ? y : hidden[i % 2].get<float>(rows * layers[i].out);
        run_layer(layers[i], x, rows, out, q_kept, s_kept, 0, panels(layers[i]));
        x = out;
    }
}

}  // namespace

// ---- the interface -------------------------------------------------------------------------------------------------------

extern "C" {

const char* bithep_instructions() { return INSTRUCTIONS; }
int64_t bithep_layer_bytes() { return sizeof(Layer); }

// Bytes of the packed codes of an (out, in) matrix.
int64_t bithep_packed_bytes(int64_t out, int64_t in) {
    return round_up(out, PANEL) / PANEL * (round_up(in, BLOCK) / BLOCK) * PACKED_BLOCK;
}

// Equation 1 for a float32 matrix (out, in), given beta (and the mean, for binary weights, else null): packed codes.
void bithep_quantise_weights(const float* w, int64_t out, int64_t in, const float* beta, const float* mean, uint8_t* packed,
                             int64_t threads) {
    const int64_t padded = round_up(in, BLOCK), blocks = padded / BLOCK, rows = round_up(out, PANEL);
#pragma omp parallel num_threads(threads) if (threads > 1 && out * in > (1 << 19))
    {
        Scratch memory;
        uint8_t* codes = memory.get<uint8_t>(padded);
        std::memset(codes, 1, padded);  // a zero weight beyond the last input
#pragma omp for
        for (int64_t n = 0; n < rows; ++n) {
            uint8_t* target = packed + n / PANEL * blocks * PACKED_BLOCK + n % PANEL * 4;
            if (n < out) weight_codes(w + n * in, (int)in, *beta, mean, codes);
            for (int64_t b = 0; b < blocks; ++b) {
                const uint32_t word = n < out ? pack_word(codes + b * BLOCK) : ZERO_WEIGHTS;
                std::memcpy(target + b * PACKED_BLOCK, &word, sizeof word);
            }
        }
    }
}

// beta t as a float32 matrix (out, in): the operand of the gradient of the input.
void bithep_dequantise_weights(const uint8_t* packed, int64_t out, int64_t in, const float* beta, float* w, int64_t threads) {
    const int64_t padded = round_up(in, BLOCK), blocks = padded / BLOCK;
#pragma omp parallel num_threads(threads) if (threads > 1 && out * in > (1 << 19))
    {
        Scratch memory;
        uint8_t* codes = memory.get<uint8_t>(padded);
#pragma omp for
        for (int64_t n = 0; n < out; ++n) {
            const uint8_t* source = packed + n / PANEL * blocks * PACKED_BLOCK + n % PANEL * 4;
            for (int64_t b = 0; b < blocks; ++b) {
                uint32_t word;
                std::memcpy(&word, source + b * PACKED_BLOCK, sizeof word);
                unpack_word(word, codes + b * BLOCK);
            }
            for (int64_t k = 0; k < in; ++k) w[n * in + k] = (float)((int)codes[k] - 1) * *beta;
        }
    }
}

// q / s for the codes of `rows` rows, stored `stride` bytes apart: the operand of the gradient of the weights.
void bithep_dequantise_rows(const int8_t* q, int64_t stride, const float* s, int64_t rows, int64_t in, float* x, int64_t threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1 && rows * in > (1 << 21))
    for (int64_t m = 0; m < rows; ++m)
        for (int64_t k = 0; k < in; ++k) x[m * in + k] = (float)q[m * stride + k] / s[m];
}

// Layers that are called together, as Python prepares them.
struct Network {
    const Layer* layers;
    int64_t count;
};

// The layers one after the other, float32 (rows, in of the first) to float32 (rows, out of the last). For a single layer, codes
// and scales of the input are kept in q_kept (rows, in padded to 16) and s_kept (rows) unless these are null.
void bithep_forward(const Network* network, const float* x, int64_t rows, float* y, int8_t* q_kept, float* s_kept,
                    int64_t threads) {
    const Layer* layers = network->layers;
    const int n_layers = (int)network->count;
    int64_t work = 0, width = 1;
    for (int i = 0; i < n_layers; ++i) {
        work += rows * layers[i].in * layers[i].out;
        width = std::max<int64_t>(width, layers[i].in + layers[i].out);
    }
    // Starting threads costs more than a small network (and far more when the machine is busy).
    if (threads <= 1 || work < 25000000) return run_network(layers, n_layers, x, rows, y, q_kept, s_kept);

    if (rows < threads * TILE_ROWS && !q_kept) {  // few rows: share out the outputs of each layer
        Scratch hidden[2];
        for (int i = 0; i < n_layers; ++i) {
            const Layer& layer = layers[i];
            float* out = i + 1 == n_layers ? y : hidden[i % 2].get<float>(rows * layer.out);
            const int n = panels(layer);
#pragma omp parallel for num_threads(threads)
            for (int t = 0; t < threads; ++t) {
                const int first = n * t / threads, last = n * (t + 1) / threads;
                if (first < last) run_layer(layer, x, rows, out, nullptr, nullptr, first, last);
            }
            x = out;
        }
        return;
    }
    // Many rows: blocks of them, small enough to stay in the cache from layer to layer and to even out busy processors.
    const int64_t share = round_up((rows + threads - 1) / threads, TILE_ROWS);
    const int64_t block = std::min(share, std::max<int64_t>(8 * TILE_ROWS, (1 << 18) / width / TILE_ROWS * TILE_ROWS));
    const int64_t in = layers[0].in, out = layers[n_layers - 1].out, padded = round_up(in, BLOCK);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t start = 0; start < rows; start += block)
        run_network(layers, n_layers, x + start * in, std::min(block, rows - start), y + start * out,
                    q_kept ? q_kept + start * padded : nullptr, s_kept ? s_kept + start : nullptr);
}

// The same without codes and scales: each argument less saves Python 0.1 microseconds, and a small network takes one.
void bithep_run(const Network* network, const float* x, int64_t rows, float* y, int64_t threads) {
    bithep_forward(network, x, rows, y, nullptr, nullptr, threads);
}

}  // extern "C"
