// Linear attention, phi(x) = elu(x) + 1, for each batch and head:
//
//     outer[i][j] = sum_s phi(k[s][i]) v[s][j]        weight[i] = sum_s phi(k[s][i])
//     out[t][j]   = sum_i phi(q[t][i]) outer[i][j] / (sum_i phi(q[t][i]) weight[i] + EPSILON)
//
// q (B, h, T, D), k and v (B, h, S, D), out (B, h, T, D), contiguous, each aligned to 16 bytes.
// Both products run on the tensor cores as TF32 (m16n8k8) with FP32 sums, because on CUDA cores
// the arithmetic, D / 2 multiply-adds a byte of FP16, would cost more than the memory. TF32 has
// FP16's mantissa and FP32's range: v is exact, sums cannot overflow, and phi of a very negative
// number keeps its precision. FP32 data is split in a high and a low TF32 part (three products).
//
// The sum over s and the order of channels in a tile are free. So each lane takes the channels
// that lie together in memory, loads go from global memory straight into the tensor cores'
// registers, 16 bytes a lane where D allows, and nothing is staged in shared memory.
//
// Two ways to launch, WARPS * 32 threads a block, gridDim.y = B * h:
//   fused               every block sums its head's whole source: one launch, no workspace
//   reduce, combine, apply   parts of the source in blocks of their own, for long sequences
//
// Macros: HEAD_DIM 1..128, HALF 0 or 1, EPSILON; THREADS and SLABS are what the host computed.
// Written for NVRTC: no include, so no toolkit is needed beside the compiler.

#ifndef PRIMITIVES  // the tests put a CPU's in their place
#if HALF
typedef unsigned short Element;  // the bits of an FP16
__device__ __forceinline__ float to_float(Element bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}
__device__ __forceinline__ Element from_float(float value) {
    Element bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
#else
typedef float Element;
__device__ __forceinline__ float to_float(Element value) { return value; }
__device__ __forceinline__ Element from_float(float value) { return value; }
#endif

__device__ __forceinline__ float exp2_of(float x) {
    float y;
    asm("ex2.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float tf32(float x) {  // rounded to 10 bits of mantissa
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return __uint_as_float(bits);
}

// c (16, 8) += a (16, 8) b (8, 8). Lane 4 g + t holds a[g, g + 8][t, t + 4], column by column,
// b[t, t + 4][g] and c[g, g + 8][2 t, 2 t + 1], row by row.
__device__ __forceinline__ void multiply(float (&c)[4], const float (&a)[4], const float (&b)[2]) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])),
          "r"(__float_as_uint(a[3])), "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
}

__device__ __forceinline__ float sum_of_quad(float x) {  // over the four lanes with the same g
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}
#endif

// ---- tiling: how channels and rows are dealt to warps --------------------------------------

constexpr int PADDED = (HEAD_DIM + 15) / 16 * 16;          // channels, zeros behind the last one
constexpr int SLAB = PADDED > 64 ? PADDED / 2 : PADDED;    // value channels of one block
constexpr int SLAB_COUNT = PADDED / SLAB;
constexpr int KEY_TILES = PADDED / 16 % 2 == 0 ? 2 : 1;    // of 16 key channels, a warp
constexpr int VALUE_TILES = SLAB / 8;                      // of 8 value channels
constexpr int ROLES = PADDED / 16 / KEY_TILES;             // warps that share the key channels
constexpr int GROUPS = ROLES == 1 ? 8 : ROLES == 2 ? 4 : ROLES <= 4 ? 2 : 1;  // share the rows
constexpr int WARPS = ROLES * GROUPS;
constexpr int KEYS = 2 * KEY_TILES;                        // key channels of a lane in reduce
constexpr int QUERIES = PADDED / 4;                        // query channels of a lane in apply
constexpr int OUTPUTS = SLAB / 4;                          // output channels of a lane in apply
constexpr int AT_ONCE = (HALF ? 32 : 16) / (KEYS + VALUE_TILES);       // what registers allow
constexpr int STEPS = AT_ONCE < 1 ? 1 : AT_ONCE > 4 ? 4 : AT_ONCE;     // of 8 rows, loaded at once
constexpr int QUERY_TILES = HALF && PADDED <= 32 ? 2 : 1;  // of 16 rows, a warp at once in apply
constexpr int CHUNK = HALF && QUERIES <= 12 ? QUERIES      // query channels of a lane, loaded at once
                      : QUERIES % 8 == 0    ? 8
                                            : 4;
constexpr int SUMS = KEY_TILES * VALUE_TILES * 4 + KEYS;   // FP32 sums of a lane in reduce
constexpr int MIN_BLOCKS = HALF && HEAD_DIM == PADDED ? 2 : 1;  // a multiprocessor, without spills
constexpr int PARTIAL = (PADDED + 1) * PADDED;             // floats: outer, then weight
constexpr int JOIN = GROUPS / 2 * ROLES * SUMS * 32;
constexpr int TABLE = PADDED * SLAB + PADDED;
constexpr int POOL = JOIN > TABLE ? JOIN : TABLE;          // floats of shared memory

// The widest vector, in elements, that divides a lane's channels.
__host__ __device__ constexpr int vector_of(int count) {
    int width = 16 / int(sizeof(Element));
    while (count % width != 0) width /= 2;
    return width;
}

static_assert(HEAD_DIM >= 1 && HEAD_DIM <= 128, "head dimension 1..128");
static_assert(THREADS == WARPS * 32 && SLABS == SLAB_COUNT, "the host computed another tiling");
static_assert(vector_of(CHUNK) == vector_of(QUERIES), "a chunk must be whole vectors");
static_assert(POOL * 4 <= 48 * 1024, "more shared memory than every GPU has");

// A row's channels are dealt to LANES lanes in vectors, so that a load covers whole lines.
template <int LANES, int COUNT>
__device__ __forceinline__ constexpr int channel_of(int part, int index) {
    constexpr int WIDTH = vector_of(COUNT);
    return index / WIDTH * (LANES * WIDTH) + part * WIDTH + index % WIDTH;
}

template <int BYTES> struct Vector;
template <> struct Vector<2> { typedef unsigned short Type; };
template <> struct Vector<4> { typedef unsigned Type; };
template <> struct Vector<8> { typedef uint2 Type; };
template <> struct Vector<16> { typedef uint4 Type; };

// COUNT channels of a row from `base` on; `fill` where the row or the channel is none.
template <int LANES, int COUNT>
__device__ __forceinline__ void load(Element (&to)[COUNT], const Element* row, int base, int part,
                                     bool present, Element fill) {
    constexpr int WIDTH = vector_of(COUNT);
    typedef typename Vector<WIDTH * sizeof(Element)>::Type Word;
#pragma unroll
    for (int first = 0; first < COUNT; first += WIDTH) {
        const int channel = base + channel_of<LANES, COUNT>(part, first);
        if (HEAD_DIM == PADDED) {
            union {
                Word word;
                Element element[WIDTH];
            } vector;
            if (present) vector.word = *reinterpret_cast<const Word*>(row + channel);
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) to[first + i] = present ? vector.element[i] : fill;
        } else {
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                to[first + i] = present && channel + i < HEAD_DIM ? row[channel + i] : fill;
            }
        }
    }
}

template <int LANES, int COUNT>
__device__ __forceinline__ void store(Element* row, const Element (&from)[COUNT], int base,
                                      int part) {
    constexpr int WIDTH = vector_of(COUNT);
    typedef typename Vector<WIDTH * sizeof(Element)>::Type Word;
#pragma unroll
    for (int first = 0; first < COUNT; first += WIDTH) {
        const int channel = base + channel_of<LANES, COUNT>(part, first);
        if (HEAD_DIM == PADDED) {
            union {
                Word word;
                Element element[WIDTH];
            } vector;
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) vector.element[i] = from[first + i];
            *reinterpret_cast<Word*>(row + channel) = vector.word;
        } else {
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                if (channel + i < HEAD_DIM) row[channel + i] = from[first + i];
            }
        }
    }
}

__device__ __forceinline__ float phi(Element bits) {
    const float x = to_float(bits);
    const float y = x > 0.0f ? x + 1.0f : exp2_of(x * 1.4426950408889634f);
    return HALF ? tf32(y) : y;  // rounded once, so that weights and sums belong together
}

// c += a b with as much precision as the elements have.
__device__ __forceinline__ void multiply_exactly(float (&c)[4], const float (&a)[4],
                                                 const float (&b)[2]) {
#if HALF
    multiply(c, a, b);
#else
    float a_high[4], a_low[4], b_high[2], b_low[2];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        a_high[i] = tf32(a[i]);
        a_low[i] = tf32(a[i] - a_high[i]);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        b_high[i] = tf32(b[i]);
        b_low[i] = tf32(b[i] - b_high[i]);
    }
    multiply(c, a_low, b_high);
    multiply(c, a_high, b_low);
    multiply(c, a_high, b_high);
#endif
}

// ---- the source: outer products and weights ------------------------------------------------

struct Place {  // of a thread in its block
    int lane, g, t, role, group;
    __device__ __forceinline__ Place() {
        const int warp = threadIdx.x / 32;
        lane = threadIdx.x % 32;
        g = lane / 4;
        t = lane % 4;
        role = warp % ROLES;
        group = warp / ROLES;
    }
};

struct Sums {
    float outer[KEY_TILES][VALUE_TILES][4];
    float weight[KEYS];
};

// Sum rows first..last of one head; what each row group has seen stays in its warps.
__device__ __forceinline__ void sum_rows(Sums& sums, const Element* key, const Element* value,
                                         int first, int last, int slab, const Place& at) {
    const Element minus_infinity = from_float(-__int_as_float(0x7f800000));  // phi of it is 0
#pragma unroll
    for (int i = 0; i < KEYS; ++i) sums.weight[i] = 0.0f;
#pragma unroll
    for (int m = 0; m < KEY_TILES; ++m)
#pragma unroll
        for (int n = 0; n < VALUE_TILES; ++n)
#pragma unroll
            for (int r = 0; r < 4; ++r) sums.outer[m][n][r] = 0.0f;

    for (int top = first + at.group * 8 * STEPS; top < last; top += GROUPS * 8 * STEPS) {
        Element k[STEPS][2][KEYS], v[STEPS][2][VALUE_TILES];
#pragma unroll
        for (int step = 0; step < STEPS; ++step)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int row = top + 8 * step + 4 * half + at.t;
                const size_t offset = size_t(row) * HEAD_DIM;
                load<8>(k[step][half], key + offset, at.role * 8 * KEYS, at.g, row < last,
                        minus_infinity);
                load<8>(v[step][half], value + offset, slab * SLAB, at.g, row < last, Element(0));
            }
        // The tensor cores cut where FP32 addition rounds. FP32 data therefore takes short sums
        // there and adds them here; for FP16 the cut is far below the rounding of the result.
        float fresh[KEY_TILES][VALUE_TILES][4];
#pragma unroll
        for (int m = 0; m < KEY_TILES; ++m)
#pragma unroll
            for (int n = 0; n < VALUE_TILES; ++n)
#pragma unroll
                for (int r = 0; r < 4; ++r) fresh[m][n][r] = HALF ? sums.outer[m][n][r] : 0.0f;
#pragma unroll
        for (int step = 0; step < STEPS; ++step) {
            float a[KEY_TILES][4];
#pragma unroll
            for (int m = 0; m < KEY_TILES; ++m)
#pragma unroll
                for (int r = 0; r < 4; ++r) {
                    a[m][r] = phi(k[step][r / 2][2 * m + r % 2]);
                    sums.weight[2 * m + r % 2] += a[m][r];
                }
#pragma unroll
            for (int n = 0; n < VALUE_TILES; ++n) {
                const float b[2] = {to_float(v[step][0][n]), to_float(v[step][1][n])};
#pragma unroll
                for (int m = 0; m < KEY_TILES; ++m) multiply_exactly(fresh[m][n], a[m], b);
            }
        }
#pragma unroll
        for (int m = 0; m < KEY_TILES; ++m)
#pragma unroll
            for (int n = 0; n < VALUE_TILES; ++n)
#pragma unroll
                for (int r = 0; r < 4; ++r)
                    sums.outer[m][n][r] = HALF ? fresh[m][n][r] : sums.outer[m][n][r] + fresh[m][n][r];
    }
#pragma unroll
    for (int i = 0; i < KEYS; ++i) sums.weight[i] = sum_of_quad(sums.weight[i]);
}

// Add the row groups' sums, pairwise and in a fixed order, into those of group 0.
__device__ __forceinline__ void join_groups(Sums& sums, float* pool, const Place& at) {
#pragma unroll
    for (int half = GROUPS / 2; half > 0; half /= 2) {
        const bool gives = at.group >= half && at.group < 2 * half;
        float* slot = pool + (at.group % half * ROLES + at.role) * SUMS * 32 + at.lane;
#pragma unroll
        for (int phase = 0; phase < 2; ++phase) {
            int i = 0;
#pragma unroll
            for (int m = 0; m < KEY_TILES; ++m)
#pragma unroll
                for (int n = 0; n < VALUE_TILES; ++n)
#pragma unroll
                    for (int r = 0; r < 4; ++r, ++i) {
                        if (phase == 0 && gives) slot[i * 32] = sums.outer[m][n][r];
                        if (phase == 1 && at.group < half) sums.outer[m][n][r] += slot[i * 32];
                    }
#pragma unroll
            for (int w = 0; w < KEYS; ++w, ++i) {
                if (phase == 0 && gives) slot[i * 32] = sums.weight[w];
                if (phase == 1 && at.group < half) sums.weight[w] += slot[i * 32];
            }
            __syncthreads();
        }
    }
}

__device__ __forceinline__ int key_of(const Place& at, int index) {  // a lane's key channel
    return at.role * 8 * KEYS + channel_of<8, KEYS>(at.g, index);
}

__device__ __forceinline__ int value_of(const Place& at, int n, int r) {  // column of a sum
    return channel_of<8, VALUE_TILES>(2 * at.t + r % 2, n);
}

// ---- the queries ---------------------------------------------------------------------------

// Where outer[i][j] lies in the table: in the order in which the tensor cores take it.
__device__ __forceinline__ int table_index(int i, int j) {
    constexpr int WIDE = vector_of(QUERIES), NARROW = vector_of(OUTPUTS);
    const int t = i % (4 * WIDE) / WIDE, c = i / (4 * WIDE) * WIDE + i % WIDE;
    const int quad = j % (4 * NARROW) / NARROW, o = j / (4 * NARROW) * NARROW + j % NARROW;
    const int lane = 4 * (2 * quad + o % 2) + t;
    return ((c / 2 * VALUE_TILES + o / 2) * 32 + lane) * 2 + c % 2;
}

// The table's rows for CHUNK query channels of each lane, from channel 4 * first on.
__device__ __forceinline__ void add_products(float (&sum)[QUERY_TILES][VALUE_TILES][4],
                                             float (&total)[QUERY_TILES][2],
                                             const Element (&q)[QUERY_TILES][2][CHUNK],
                                             const float* table, int first, const Place& at) {
    const float* weight = table + PADDED * SLAB + 4 * first;
    const float* pairs = table + first * VALUE_TILES * 32 + at.lane * 2;
#pragma unroll
    for (int c = 0; c < CHUNK; c += 2) {
        float a[QUERY_TILES][4];
#pragma unroll
        for (int m = 0; m < QUERY_TILES; ++m)
#pragma unroll
            for (int r = 0; r < 4; ++r) {
                a[m][r] = phi(q[m][r % 2][c + r / 2]);
                total[m][r % 2] += a[m][r] * weight[channel_of<4, CHUNK>(at.t, c + r / 2)];
            }
#pragma unroll
        for (int n = 0; n < VALUE_TILES; ++n) {
            const float* pair = pairs + (c / 2 * VALUE_TILES + n) * 64;
            const float2 both = *reinterpret_cast<const float2*>(pair);
            const float b[2] = {both.x, both.y};
#pragma unroll
            for (int m = 0; m < QUERY_TILES; ++m) multiply_exactly(sum[m][n], a[m], b);
        }
    }
}

// Rows of queries, QUERY_TILES * 16 a warp at a time, against the table in shared memory.
__device__ __forceinline__ void answer(const Element* query, Element* out, const float* table,
                                       int queries, int block, int blocks, int slab,
                                       const Place& at) {
    constexpr int ROWS = QUERY_TILES * 16;
    const int warp = threadIdx.x / 32;
    for (int top = (block * WARPS + warp) * ROWS; top < queries; top += blocks * WARPS * ROWS) {
        float sum[QUERY_TILES][VALUE_TILES][4], total[QUERY_TILES][2];
#pragma unroll
        for (int m = 0; m < QUERY_TILES; ++m) {
            total[m][0] = total[m][1] = 0.0f;
#pragma unroll
            for (int n = 0; n < VALUE_TILES; ++n)
#pragma unroll
                for (int r = 0; r < 4; ++r) sum[m][n][r] = 0.0f;
        }
#pragma unroll 1
        for (int first = 0; first < QUERIES; first += CHUNK) {
            Element q[QUERY_TILES][2][CHUNK];
#pragma unroll
            for (int m = 0; m < QUERY_TILES; ++m)
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const int row = top + 16 * m + 8 * half + at.g;
                    load<4>(q[m][half], query + size_t(row) * HEAD_DIM, 4 * first, at.t,
                            row < queries, Element(0));
                }
            add_products(sum, total, q, table, first, at);
        }
#pragma unroll
        for (int m = 0; m < QUERY_TILES; ++m)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int row = top + 16 * m + 8 * half + at.g;
                const float scale = 1.0f / (sum_of_quad(total[m][half]) + float(EPSILON));
                Element result[OUTPUTS];
#pragma unroll
                for (int o = 0; o < OUTPUTS; ++o)
                    result[o] = from_float(sum[m][o / 2][2 * half + o % 2] * scale);
                if (row < queries)
                    store<4>(out + size_t(row) * HEAD_DIM, result, slab * SLAB, at.t);
            }
    }
}

__device__ __forceinline__ float table_value(float x) { return HALF ? tf32(x) : x; }

// ---- kernels -------------------------------------------------------------------------------

// gridDim.x = blocks of queries * SLABS
extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS)
linear_attention_fused(const Element* __restrict__ query, const Element* __restrict__ key,
                       const Element* __restrict__ value, int queries, int sources,
                       Element* __restrict__ out) {
    __shared__ __align__(16) float pool[POOL];
    const Place at;
    const int slab = blockIdx.x % SLABS;
    const size_t source = size_t(blockIdx.y) * sources * HEAD_DIM;
    const size_t head = size_t(blockIdx.y) * queries * HEAD_DIM;
    Sums sums;
    sum_rows(sums, key + source, value + source, 0, sources, slab, at);
    join_groups(sums, pool, at);
    if (at.group == 0) {
#pragma unroll
        for (int m = 0; m < KEY_TILES; ++m)
#pragma unroll
            for (int n = 0; n < VALUE_TILES; ++n)
#pragma unroll
                for (int r = 0; r < 4; ++r)
                    pool[table_index(key_of(at, 2 * m + r / 2), value_of(at, n, r))] =
                        table_value(sums.outer[m][n][r]);
        if (at.t == 0) {
#pragma unroll
            for (int i = 0; i < KEYS; ++i) pool[PADDED * SLAB + key_of(at, i)] = sums.weight[i];
        }
    }
    __syncthreads();
    answer(query + head, out + head, pool, queries, blockIdx.x / SLABS, gridDim.x / SLABS, slab,
           at);
}

// gridDim.x = parts * SLABS; part p sums `rows` rows into partial[head][p] (PADDED + 1, PADDED)
extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS)
linear_attention_reduce(const Element* __restrict__ key, const Element* __restrict__ value,
                        int sources, int rows, float* __restrict__ partial) {
    __shared__ float pool[POOL];
    const Place at;
    const int slab = blockIdx.x % SLABS, part = blockIdx.x / SLABS, parts = gridDim.x / SLABS;
    const size_t source = size_t(blockIdx.y) * sources * HEAD_DIM;
    const int first = part * rows, last = min(first + rows, sources);
    Sums sums;
    sum_rows(sums, key + source, value + source, first, last, slab, at);
    join_groups(sums, pool, at);
    if (at.group != 0) return;
    float* matrix = partial + (size_t(blockIdx.y) * parts + part) * PARTIAL;
#pragma unroll
    for (int m = 0; m < KEY_TILES; ++m)
#pragma unroll
        for (int n = 0; n < VALUE_TILES; ++n)
#pragma unroll
            for (int r = 0; r < 4; ++r)
                matrix[key_of(at, 2 * m + r / 2) * PADDED + slab * SLAB + value_of(at, n, r)] =
                    sums.outer[m][n][r];
    if (at.t == 0 && slab == 0) {
#pragma unroll
        for (int i = 0; i < KEYS; ++i) matrix[PADDED * PADDED + key_of(at, i)] = sums.weight[i];
    }
}

// gridDim.x * THREADS >= PARTIAL; the parts of a head are summed into its first, in their order
extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS)
linear_attention_combine(float* __restrict__ partial, int parts) {
    const int index = blockIdx.x * THREADS + threadIdx.x;
    if (index >= PARTIAL) return;
    float* first = partial + size_t(blockIdx.y) * parts * PARTIAL + index;
    float sum = 0.0f;
#pragma unroll 8
    for (int part = 0; part < parts; ++part) sum += first[size_t(part) * PARTIAL];
    *first = sum;
}

// gridDim.x = blocks of queries * SLABS; the sums of a head are the first of its parts
extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS)
linear_attention_apply(const Element* __restrict__ query, const float* __restrict__ partial,
                       int parts, int queries, Element* __restrict__ out) {
    __shared__ __align__(16) float table[TABLE];
    const Place at;
    const int slab = blockIdx.x % SLABS;
    const float* matrix = partial + size_t(blockIdx.y) * parts * PARTIAL;
    for (int index = threadIdx.x; index < PADDED * SLAB; index += THREADS) {
        const int i = index / SLAB, j = index % SLAB;
        table[table_index(i, j)] = table_value(matrix[i * PADDED + slab * SLAB + j]);
    }
    for (int i = threadIdx.x; i < PADDED; i += THREADS)
        table[PADDED * SLAB + i] = matrix[PADDED * PADDED + i];
    __syncthreads();
    const size_t head = size_t(blockIdx.y) * queries * HEAD_DIM;
    answer(query + head, out + head, table, queries, blockIdx.x / SLABS, gridDim.x / SLABS, slab,
           at);
}
