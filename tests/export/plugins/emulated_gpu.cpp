// One GPU block after another on a CPU: every thread is a fiber, and what its warp or block does
// together is where it waits. A kernel text included here runs as it stands, so that its indexing
// is tested without a GPU; only the primitives of its first section are replaced.

#include <ucontext.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#define PRIMITIVES
#define __device__
#define __host__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(threads, blocks)
#define __shared__ static
#define __align__(bytes) __attribute__((aligned(bytes)))

using std::size_t;
struct uint2 { unsigned x, y; };
struct uint4 { unsigned x, y, z, w; };
struct float2 { float x, y; };
struct Index { int x, y, z; };

static Index threadIdx, blockIdx, gridDim;
static inline int min(int a, int b) { return a < b ? a : b; }

struct Barrier { int arrived = 0, size = 0; long generation = 0; };
struct Exchange { float a[2][32][4], b[2][32][2]; long uses[32] = {}; };

static std::vector<ucontext_t> fibers;
static std::vector<bool> finished;
static std::vector<Barrier> warps;
static std::vector<Exchange> exchanges;
static Barrier block;
static ucontext_t scheduler;
static long arrivals;

static void wait(Barrier& barrier) {
    const int me = threadIdx.x;
    const long generation = barrier.generation;
    ++arrivals;
    if (++barrier.arrived == barrier.size) {
        barrier.arrived = 0;
        ++barrier.generation;
        return;
    }
    while (barrier.generation == generation) swapcontext(&fibers[me], &scheduler);
}

static void __syncthreads() { wait(block); }

// A lane's values, seen by its whole warp; two slots in turn, so that one wait is enough.
static Exchange& exchange(const float* a, int a_count, const float* b, int b_count, int& slot) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    Exchange& shared = exchanges[warp];
    slot = shared.uses[lane]++ % 2;
    std::memcpy(shared.a[slot][lane], a, sizeof(float) * a_count);
    if (b_count > 0) std::memcpy(shared.b[slot][lane], b, sizeof(float) * b_count);
    wait(warps[warp]);
    return shared;
}

static inline float __int_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

#if HALF
typedef unsigned short Element;
static float to_float(Element bits) {
    _Float16 value;
    std::memcpy(&value, &bits, sizeof value);
    return float(value);
}
static Element from_float(float value) {
    const _Float16 half = _Float16(value);
    Element bits;
    std::memcpy(&bits, &half, sizeof bits);
    return bits;
}
#else
typedef float Element;
static float to_float(Element value) { return value; }
static Element from_float(float value) { return value; }
#endif

static float exp2_of(float x) { return std::exp2(x); }

static float tf32(float x) {
    if (!std::isfinite(x)) return x;
    unsigned bits;
    std::memcpy(&bits, &x, sizeof bits);
    return __int_as_float((bits + 0x1000u) & ~0x1fffu);
}

// As the PTX manual lays out mma.m16n8k8 for .tf32.
static void multiply(float (&c)[4], const float (&a)[4], const float (&b)[2]) {
    int slot;
    const Exchange& warp = exchange(a, 4, b, 2, slot);
    const int lane = threadIdx.x % 32;
    for (int r = 0; r < 4; ++r) {
        const int row = lane / 4 + (r < 2 ? 0 : 8), column = lane % 4 * 2 + r % 2;
        double sum = c[r];
        for (int k = 0; k < 8; ++k) {
            const float left = warp.a[slot][row % 8 * 4 + k % 4][row / 8 + (k < 4 ? 0 : 2)];
            const float right = warp.b[slot][column * 4 + k % 4][k < 4 ? 0 : 1];
            sum += double(tf32(left)) * double(tf32(right));
        }
        c[r] = float(sum);
    }
}

static float sum_of_quad(float x) {
    int slot;
    const Exchange& warp = exchange(&x, 1, nullptr, 0, slot);
    const int quad = threadIdx.x % 32 / 4 * 4;
    float sum = 0.0f;
    for (int i = 0; i < 4; ++i) sum += warp.a[slot][quad + i][0];
    return sum;
}

#include KERNEL

static int kernel;
static void** arguments;

template <typename T> static T argument(int i) { return *static_cast<T*>(arguments[i]); }

static void run_thread() {
    typedef const Element* In;
    if (kernel == 0)
        linear_attention_fused(argument<In>(0), argument<In>(1), argument<In>(2), argument<int>(3),
                               argument<int>(4), argument<Element*>(5));
    if (kernel == 1)
        linear_attention_reduce(argument<In>(0), argument<In>(1), argument<int>(2),
                                argument<int>(3), argument<float*>(4));
    if (kernel == 2) linear_attention_combine(argument<float*>(0), argument<int>(1));
    if (kernel == 3)
        linear_attention_apply(argument<In>(0), argument<const float*>(1), argument<int>(2),
                               argument<int>(3), argument<Element*>(4));
    finished[threadIdx.x] = true;
    swapcontext(&fibers[threadIdx.x], &scheduler);
}

static void run_block(int threads, std::vector<char>& stacks, size_t stack) {
    fibers.assign(threads, ucontext_t());
    finished.assign(threads, false);
    warps.assign(threads / 32, Barrier());
    exchanges.assign(threads / 32, Exchange());
    for (Barrier& warp : warps) warp.size = 32;
    block = Barrier();
    block.size = threads;
    for (int i = 0; i < threads; ++i) {
        getcontext(&fibers[i]);
        fibers[i].uc_stack.ss_sp = &stacks[stack * i];
        fibers[i].uc_stack.ss_size = stack;
        makecontext(&fibers[i], run_thread, 0);
    }
    for (int left = threads; left > 0;) {
        const long before = arrivals;
        const int were = left;
        for (int i = 0; i < threads; ++i) {
            if (finished[i]) continue;
            threadIdx.x = i;
            swapcontext(&scheduler, &fibers[i]);
            left -= finished[i];
        }
        if (left == were && arrivals == before) {
            std::fprintf(stderr, "threads wait for others that never come\n");
            std::abort();
        }
    }
}

extern "C" void launch(int number, int grid_x, int grid_y, void** values) {
    const size_t stack = 256 * 1024;
    std::vector<char> stacks(stack * THREADS);
    kernel = number;
    arguments = values;
    gridDim = {grid_x, grid_y, 1};
    for (int y = 0; y < grid_y; ++y)
        for (int x = 0; x < grid_x; ++x) {
            blockIdx = {x, y, 0};
            run_block(THREADS, stacks, stack);
        }
}
