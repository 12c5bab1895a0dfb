// The kernels of one variant on the GPU of the current context: compiled by NVRTC, then launched.
#pragma once

#include <cuda.h>
#include <nvrtc.h>

#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernel_text.h"
#include "tiling.h"

namespace skyfix {

inline void check(CUresult code, char const* what) {
    if (code == CUDA_SUCCESS) return;
    char const* reason = "unknown error";
    cuGetErrorString(code, &reason);
    throw std::runtime_error(std::string(what) + ": " + reason);
}

inline void check(nvrtcResult code, char const* what) {
    if (code != NVRTC_SUCCESS)
        throw std::runtime_error(std::string(what) + ": " + nvrtcGetErrorString(code));
}

inline int attribute(CUdevice_attribute which) {
    CUdevice device;
    int value = 0;
    check(cuCtxGetDevice(&device), "cuCtxGetDevice");
    check(cuDeviceGetAttribute(&value, which, device), "cuDeviceGetAttribute");
    return value;
}

inline int multiprocessors() { return attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT); }

inline std::string optionOf(char const* name, int value) {
    return std::string("-D") + name + "=" + std::to_string(value);
}

inline std::vector<std::string> optionsOf(int headDim, bool half, float epsilon) {
    Tiling const tiling = tilingOf(headDim);
    char number[32];
    std::snprintf(number, sizeof number, "%.9e", double(epsilon));
    int const architecture = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) * 10 +
                             attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    return {"--gpu-architecture=sm_" + std::to_string(architecture), "--std=c++17",
            optionOf("HEAD_DIM", headDim), optionOf("HALF", half),
            std::string("-DEPSILON=") + number, optionOf("THREADS", tiling.threads),
            optionOf("SLABS", tiling.slabs)};
}

inline std::vector<char> compiled(std::vector<std::string> const& options) {
    nvrtcProgram program;
    check(nvrtcCreateProgram(&program, kKernelText, "linear_attention.cu", 0, nullptr, nullptr),
          "nvrtcCreateProgram");
    auto destroy = [](nvrtcProgram* held) { nvrtcDestroyProgram(held); };
    std::unique_ptr<nvrtcProgram, decltype(destroy)> const guard(&program, destroy);
    std::vector<char const*> texts;
    for (std::string const& option : options) texts.push_back(option.c_str());
    if (nvrtcCompileProgram(program, int(texts.size()), texts.data()) != NVRTC_SUCCESS) {
        std::size_t size = 0;
        check(nvrtcGetProgramLogSize(program, &size), "nvrtcGetProgramLogSize");
        std::string log(size, '\0');
        check(nvrtcGetProgramLog(program, &log[0]), "nvrtcGetProgramLog");
        throw std::runtime_error("linear_attention.cu does not compile: " + log);
    }
    std::size_t size = 0;
    check(nvrtcGetCUBINSize(program, &size), "nvrtcGetCUBINSize");
    std::vector<char> image(size);
    check(nvrtcGetCUBIN(program, image.data()), "nvrtcGetCUBIN");
    return image;
}

struct Sizes {
    int heads, queries, sources;
};

class Kernels {
public:
    Kernels(int headDim, bool half, float epsilon) : tiling_(tilingOf(headDim)) {
        std::vector<char> const image = compiled(optionsOf(headDim, half, epsilon));
        check(cuModuleLoadData(&module_, image.data()), "cuModuleLoadData");
        fused_ = function("linear_attention_fused");
        reduce_ = function("linear_attention_reduce");
        combine_ = function("linear_attention_combine");
        apply_ = function("linear_attention_apply");
    }
    ~Kernels() { cuModuleUnload(module_); }
    Kernels(Kernels const&) = delete;
    Kernels& operator=(Kernels const&) = delete;

    Tiling const& tiling() const { return tiling_; }

    void launch(Sizes sizes, Schedule schedule, void const* const* inputs, void* out,
                void* workspace, CUstream stream) const {
        void const *query = inputs[0], *key = inputs[1], *value = inputs[2];
        int const answers = schedule.blocks * tiling_.slabs;
        if (schedule.parts == 0) {
            void* values[] = {&query, &key, &value, &sizes.queries, &sizes.sources, &out};
            put(fused_, answers, sizes.heads, values, stream);
            return;
        }
        void* sums[] = {&key, &value, &sizes.sources, &schedule.partRows, &workspace};
        put(reduce_, schedule.parts * tiling_.slabs, sizes.heads, sums, stream);
        if (schedule.parts > 1) {
            void* parts[] = {&workspace, &schedule.parts};
            put(combine_, dividedUp(tiling_.partialFloats(), tiling_.threads), sizes.heads, parts,
                stream);
        }
        void* last[] = {&query, &workspace, &schedule.parts, &sizes.queries, &out};
        put(apply_, answers, sizes.heads, last, stream);
    }

private:
    CUfunction function(char const* name) const {
        CUfunction found;
        check(cuModuleGetFunction(&found, module_, name), name);
        return found;
    }

    void put(CUfunction kernel, int blocks, int heads, void** values, CUstream stream) const {
        check(cuLaunchKernel(kernel, blocks, heads, 1, tiling_.threads, 1, 1, 0, stream, values,
                             nullptr),
              "cuLaunchKernel");
    }

    Tiling tiling_;
    CUmodule module_{};
    CUfunction fused_{}, reduce_{}, combine_{}, apply_{};
};

}  // namespace skyfix
