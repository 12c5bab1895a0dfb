// How linear_attention.cu is compiled and launched: the arithmetic of ../tiling.py.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace skyfix {

constexpr int kMaxHeadDim = 128;
constexpr int kMaxHeads = 65535;         // B * h is the grid's second dimension
constexpr int kFusedMaxSource = 2048;    // tokens
constexpr int kFusedBlocks = 16;         // a head, at most: each reads the whole source again
constexpr int kBlocksPerMultiprocessor = 2;
constexpr int kMinPartRows = 128;

struct Tiling {
    int padded, slabs, threads, rows;
    int partialFloats() const { return (padded + 1) * padded; }
};

struct Schedule {
    int parts, partRows, blocks;  // parts 0: the fused kernel
    std::size_t workspaceBytes(int heads, Tiling const& tiling) const {
        return std::size_t(heads) * parts * tiling.partialFloats() * sizeof(float);
    }
};

constexpr int dividedUp(int count, int by) { return (count + by - 1) / by; }

inline Tiling tilingOf(int headDim) {
    int const padded = dividedUp(headDim, 16) * 16;
    int const slabs = padded > 64 ? 2 : 1;
    int const tiles = padded / 16;
    int const roles = tiles % 2 == 0 ? tiles / 2 : tiles;
    int const groups = roles == 1 ? 8 : roles == 2 ? 4 : roles <= 4 ? 2 : 1;
    int const warps = roles * groups;
    return Tiling{padded, slabs, warps * 32, warps * 16};
}

inline Schedule scheduleOf(
    int heads, int queries, int sources, Tiling const& tiling, int multiprocessors) {
    int const wanted =
        std::max(1, multiprocessors * kBlocksPerMultiprocessor / tiling.slabs);
    int const perHead = std::max(1, wanted / heads);
    int const answers = dividedUp(queries, tiling.rows);
    if (sources <= kFusedMaxSource)
        return Schedule{0, 0, std::min({answers, perHead, kFusedBlocks})};
    int const parts = std::min(perHead, dividedUp(sources, kMinPartRows));
    int const rows = dividedUp(sources, parts);
    return Schedule{dividedUp(sources, rows), rows, std::min(answers, perHead)};
}

// Bytes that no schedule for up to `heads` heads exceeds.
inline std::size_t workspaceBound(int heads, Tiling const& tiling, int multiprocessors) {
    int const parts = std::max(heads, multiprocessors * kBlocksPerMultiprocessor);
    return std::size_t(parts) * tiling.partialFloats() * sizeof(float);
}

}  // namespace skyfix
