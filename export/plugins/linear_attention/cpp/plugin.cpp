// Linear attention as a TensorRT plugin (IPluginV3) in C++: the same node, kernels and launches as
// ../plugin.py, for programs without Python, such as trtexec:
//
//     trtexec --onnx=encoder.trt.onnx --stronglyTyped --dynamicPlugins=liblinear_attention.so
//
// No exception may leave TensorRT's calls: they end in a message on stderr and a code.

#include <NvInfer.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>

#include "kernels.h"

namespace skyfix {

using namespace nvinfer1;

constexpr char kOperator[] = "LinearAttention";
constexpr char kNamespace[] = "skyfix";
constexpr char kVersion[] = "1";
constexpr char kEpsilon[] = "epsilon";
constexpr float kEpsilonDefault = 1e-6F;  // published code of MFRGN
constexpr int32_t kFailed = 1;

template <typename Work>
int32_t guarded(Work&& work) noexcept {
    try {
        work();
        return 0;
    } catch (std::exception const& error) {
        std::fprintf(stderr, "%s: %s\n", kOperator, error.what());
        return kFailed;
    }
}

inline void checkShapes(Dims const& query, Dims const& key, Dims const& value) {
    bool fits = query.nbDims == 4 && key.nbDims == 4 && value.nbDims == 4;
    for (int axis = 0; fits && axis < 4; ++axis)
        fits = key.d[axis] == value.d[axis] && (axis == 2 || query.d[axis] == key.d[axis]);
    if (!fits) throw std::runtime_error("key and value (B, h, S, D), query (B, h, T, D) needed");
    if (query.d[3] < 1 || query.d[3] > kMaxHeadDim)
        throw std::runtime_error("the head dimension must be 1 to 128");
    if (int64_t(query.d[0]) * query.d[1] > kMaxHeads)
        throw std::runtime_error("at most 65535 heads in a batch");
}

class Plugin : public IPluginV3,
               public IPluginV3OneCore,
               public IPluginV3OneBuild,
               public IPluginV3OneRuntime {
public:
    explicit Plugin(float epsilon)
        : epsilon_(epsilon), field_{kEpsilon, &epsilon_, PluginFieldType::kFLOAT32, 1} {
        fields_.nbFields = 1;
        fields_.fields = &field_;
    }

    IPluginCapability* getCapabilityInterface(PluginCapabilityType type) noexcept override {
        switch (type) {
            case PluginCapabilityType::kCORE: return static_cast<IPluginV3OneCore*>(this);
            case PluginCapabilityType::kBUILD: return static_cast<IPluginV3OneBuild*>(this);
            case PluginCapabilityType::kRUNTIME: return static_cast<IPluginV3OneRuntime*>(this);
        }
        return nullptr;
    }

    IPluginV3* clone() noexcept override { return new (std::nothrow) Plugin(epsilon_); }
    IPluginV3* attachToContext(IPluginResourceContext*) noexcept override { return clone(); }

    char const* getPluginName() const noexcept override { return kOperator; }
    char const* getPluginVersion() const noexcept override { return kVersion; }
    char const* getPluginNamespace() const noexcept override { return kNamespace; }
    int32_t getNbOutputs() const noexcept override { return 1; }
    PluginFieldCollection const* getFieldsToSerialize() noexcept override { return &fields_; }

    int32_t getOutputDataTypes(
        DataType* outputs, int32_t, DataType const* inputs, int32_t) const noexcept override {
        outputs[0] = inputs[0];
        return 0;
    }

    int32_t getOutputShapes(DimsExprs const* inputs, int32_t, DimsExprs const*, int32_t,
                            DimsExprs* outputs, int32_t, IExprBuilder&) noexcept override {
        outputs[0] = inputs[0];
        return 0;
    }

    bool supportsFormatCombination(int32_t position, DynamicPluginTensorDesc const* tensors,
                                   int32_t, int32_t) noexcept override {
        PluginTensorDesc const& found = tensors[position].desc;
        return found.format == TensorFormat::kLINEAR &&
               (found.type == DataType::kFLOAT || found.type == DataType::kHALF) &&
               (position == 0 || found.type == tensors[0].desc.type);
    }

    int32_t configurePlugin(DynamicPluginTensorDesc const* in, int32_t,
                            DynamicPluginTensorDesc const*, int32_t) noexcept override {
        return guarded([&] { checkShapes(in[0].max, in[1].max, in[2].max); });
    }

    size_t getWorkspaceSize(DynamicPluginTensorDesc const* in, int32_t,
                            DynamicPluginTensorDesc const*, int32_t) const noexcept override {
        size_t bytes = 0;
        guarded([&] {
            Dims const& largest = in[0].max;
            int const heads = int(largest.d[0] * largest.d[1]);
            bytes = workspaceBound(heads, tilingOf(int(largest.d[3])), multiprocessors());
        });
        return bytes;
    }

    int32_t onShapeChange(PluginTensorDesc const* in, int32_t, PluginTensorDesc const*,
                          int32_t) noexcept override {
        return guarded([&] {
            Dims const &query = in[0].dims, &key = in[1].dims;
            checkShapes(query, key, in[2].dims);
            int const headDim = int(query.d[3]);
            bool const half = in[0].type == DataType::kHALF;
            if (!kernels_ || headDim != headDim_ || half != half_) {
                kernels_ = std::make_unique<Kernels>(headDim, half, epsilon_);
                headDim_ = headDim;
                half_ = half;
            }
            sizes_ = Sizes{int(query.d[0] * query.d[1]), int(query.d[2]), int(key.d[2])};
            schedule_ = scheduleOf(sizes_.heads, sizes_.queries, sizes_.sources,
                                   kernels_->tiling(), multiprocessors());
        });
    }

    int32_t enqueue(PluginTensorDesc const*, PluginTensorDesc const*, void const* const* inputs,
                    void* const* outputs, void* workspace, cudaStream_t stream) noexcept override {
        return guarded([&] {
            if (!kernels_) throw std::runtime_error("enqueue before onShapeChange");
            kernels_->launch(sizes_, schedule_, inputs, outputs[0], workspace, stream);
        });
    }

private:
    float epsilon_;
    PluginField field_;
    PluginFieldCollection fields_{};
    std::unique_ptr<Kernels> kernels_;
    int headDim_ = 0;
    bool half_ = false;
    Sizes sizes_{};
    Schedule schedule_{};
};

class Creator : public IPluginCreatorV3One {
public:
    Creator() : field_{kEpsilon, nullptr, PluginFieldType::kFLOAT32, 1} {
        fields_.nbFields = 1;
        fields_.fields = &field_;
    }

    char const* getPluginName() const noexcept override { return kOperator; }
    char const* getPluginVersion() const noexcept override { return kVersion; }
    char const* getPluginNamespace() const noexcept override { return kNamespace; }
    PluginFieldCollection const* getFieldNames() noexcept override { return &fields_; }

    IPluginV3* createPlugin(char const* name, PluginFieldCollection const* fields,
                            TensorRTPhase) noexcept override {
        float epsilon = kEpsilonDefault;
        for (int32_t i = 0; i < fields->nbFields; ++i) {
            PluginField const& field = fields->fields[i];
            if (std::strcmp(field.name, kEpsilon) == 0 && field.data != nullptr)
                epsilon = *static_cast<float const*>(field.data);
        }
        if (!(std::isfinite(epsilon) && epsilon >= 0.0F)) {
            std::fprintf(stderr, "%s %s: epsilon must be 0 or more\n", kOperator, name);
            return nullptr;
        }
        return new (std::nothrow) Plugin(epsilon);
    }

private:
    PluginField field_;
    PluginFieldCollection fields_{};
};

}  // namespace skyfix

// What TensorRT looks for in a plugin library that it loads.
extern "C" void setLoggerFinder(nvinfer1::ILoggerFinder*) {}

extern "C" nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
    static skyfix::Creator creator;
    static nvinfer1::IPluginCreatorInterface* const creators[] = {&creator};
    count = 1;
    return creators;
}
