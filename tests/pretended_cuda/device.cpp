// A pretended CUDA device for a CPU build of torch, or with -DPRETENDED_MPS a pretended MPS device. Its memory is the host's, and its kernels are those of the CPU.
//
// Tensors have the device cuda:0, so code that mixes devices or takes the generator of the wrong device fails as on a
// GPU. Values are those of the CPU. The function that `listen` sets is called for each operation for which the host would
// wait for a GPU, as torch's own check of `torch.cuda.set_sync_debug_mode` is.

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#ifdef PRETENDED_MPS
#include <ATen/detail/MPSHooksInterface.h>
#else
#include <ATen/detail/CUDAHooksInterface.h>
#endif
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

using at::Tensor;
using c10::DispatchKey;
using c10::DispatchKeySet;

namespace {

#ifdef PRETENDED_MPS
constexpr c10::DeviceType kType = at::kMPS;
constexpr DispatchKey kKey = DispatchKey::MPS;
#define DEVICE_KEY MPS
#else
constexpr c10::DeviceType kType = at::kCUDA;
constexpr DispatchKey kKey = DispatchKey::CUDA;
#define DEVICE_KEY CUDA
#endif
const at::Device kDevice(kType, 0);
const at::Device kHost(at::kCPU);

// ---------------------------------------------------------------------- reports

int (*listener)() = nullptr;  // returns 1 if the operation shall fail
thread_local bool inside_kernel = false;  // a kernel of the CPU calls operators that are no calls of the program

void report_wait(const std::string& operation) {
  if (listener == nullptr || inside_kernel) return;
  TORCH_CHECK(listener() == 0, "called a synchronizing CUDA operation (", operation, ")");
}

struct InsideKernel {
  bool before = inside_kernel;
  InsideKernel() { inside_kernel = true; }
  ~InsideKernel() { inside_kernel = before; }
};

// ---------------------------------------------------------------------- memory

std::mutex pinned_mutex;
std::set<const void*> pinned_blocks;  // the addresses at which blocks of pinned memory start

struct Memory : c10::Allocator {
  Memory(at::Device device, bool pinned) : device(device), pinned(pinned) {}

  static void release(void* block) {
    {
      std::lock_guard<std::mutex> guard(pinned_mutex);
      pinned_blocks.erase(block);
    }
    free(block);
  }

  c10::DataPtr allocate(size_t size) override {
    void* block = nullptr;
    if (posix_memalign(&block, 64, size == 0 ? 64 : size) != 0) throw std::bad_alloc();
    if (pinned) {
      std::lock_guard<std::mutex> guard(pinned_mutex);
      pinned_blocks.insert(block);
    }
    return {block, block, &release, device};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &release; }

  void copy_data(void* to, const void* from, std::size_t size) const override { default_copy_data(to, from, size); }

  at::Device device;
  bool pinned;
};

Memory device_memory(kDevice, false);
Memory pinned_memory(kHost, true);

bool is_pinned(const void* address) {
  std::lock_guard<std::mutex> guard(pinned_mutex);
  return pinned_blocks.count(address) > 0;
}

// ---------------------------------------------------------------------- the device, as torch asks for it

struct Guard : c10::impl::NoOpDeviceGuardImpl<kType> {
  at::Device exchangeDevice(at::Device) const override { return kDevice; }
  at::Device getDevice() const override { return kDevice; }
  c10::Stream getStream(at::Device) const noexcept override { return c10::Stream(c10::Stream::DEFAULT, kDevice); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override {
    return c10::Stream(c10::Stream::DEFAULT, kDevice);
  }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
  void synchronizeEvent(void*) const override {}
};
C10_REGISTER_GUARD_IMPL(DEVICE_KEY, Guard);

struct DeviceGenerator : at::CPUGeneratorImpl {
  DeviceGenerator() : at::CPUGeneratorImpl(1) {
    device_ = kDevice;
    key_set_ = DispatchKeySet(kKey);
  }
};

at::Generator& default_generator() {
  static at::Generator generator = at::make_generator<DeviceGenerator>();
  return generator;
}

#ifdef PRETENDED_MPS
struct MPSHooks : at::MPSHooksInterface {
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasMPS() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override { return default_generator(); }
  at::Generator getNewGenerator(c10::DeviceIndex) const override { return at::make_generator<DeviceGenerator>(); }
};
using at::MPSHooksRegistry, at::RegistererMPSHooksRegistry;  // names in the macro
REGISTER_MPS_HOOKS(MPSHooks);
#else
struct CUDAHooks : at::CUDAHooksInterface {
  explicit CUDAHooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasCUDA() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override { return default_generator(); }
  at::Generator getNewGenerator(c10::DeviceIndex) const override { return at::make_generator<DeviceGenerator>(); }
  at::Allocator* getPinnedMemoryAllocator() const override { return &pinned_memory; }
  bool isPinnedPtr(const void* address) const override { return is_pinned(address); }
};
using at::CUDAHooksRegistry, at::RegistererCUDAHooksRegistry;  // names in the macro
REGISTER_CUDA_HOOKS(CUDAHooks);
#endif

// ---------------------------------------------------------------------- operators

bool on_kind(const at::Device& device) { return device.type() == kType; }
bool on_kind(const Tensor& tensor) { return on_kind(tensor.device()); }

// MPS has no float64.
void check_dtype(at::ScalarType dtype) {
#ifdef PRETENDED_MPS
  TORCH_CHECK_TYPE(dtype != at::kDouble && dtype != at::kComplexDouble,
                   "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64. "
                   "Please use float32 instead.");
#endif
}

// Return a tensor with the same memory that claims to be on `device`.
Tensor relabel(const Tensor& tensor, at::Device device, DispatchKey key) {
  auto* owner = new at::Storage(tensor.storage());
  c10::DataPtr data(const_cast<void*>(tensor.storage().data()), owner,
                    [](void* pointer) { delete static_cast<at::Storage*>(pointer); }, device);
  auto* allocator = on_kind(device) ? static_cast<c10::Allocator*>(&device_memory) : c10::GetAllocator(at::kCPU);
  at::Storage storage(at::Storage::use_byte_size_t(), tensor.storage().nbytes(), std::move(data), allocator, true);
  Tensor result = at::detail::make_tensor<at::TensorImpl>(std::move(storage), DispatchKeySet(key), tensor.dtype());
  result.unsafeGetTensorImpl()->set_sizes_and_strides(tensor.sizes(), tensor.strides(), tensor.storage_offset());
  return result;
}

Tensor on_host(const Tensor& tensor) {
  return tensor.defined() && on_kind(tensor) ? relabel(tensor, kHost, DispatchKey::CPU) : tensor;
}

Tensor on_device(const Tensor& tensor) {
  check_dtype(tensor.scalar_type());
  return relabel(tensor, kDevice, kKey);
}

// Operators whose result has a size, or a value on the host, that depends on numbers in the device's memory.
const std::unordered_set<std::string> kWaits = {
    "aten::_local_scalar_dense", "aten::bincount",           "aten::equal",         "aten::masked_select",
    "aten::nonzero",             "aten::repeat_interleave", "aten::unique_consecutive",
    "aten::unique_dim",          "aten::_unique2"};

// Operators that accept indices on the host, and copy them to the device.
const std::unordered_set<std::string> kCopiesIndices = {"aten::index", "aten::index_put_", "aten::_index_put_impl_",
                                                        "aten::_unsafe_index"};

// One call of an operator: its arguments are relabelled for the CPU's kernel, and its results for the device.
class Call {
 public:
  Call(const c10::OperatorHandle& op, torch::jit::Stack* stack) : op_(op), stack_(stack) {}

  void run() {
    const std::string& name = op_.schema().name();
    if (kWaits.count(name) > 0) report_wait(name.substr(6));
    const auto& arguments = op_.schema().arguments();
    const size_t first_argument = stack_->size() - arguments.size();
    for (size_t i = 0; i < arguments.size(); i++) take_argument((*stack_)[first_argument + i], arguments[i].name());
    {
      InsideKernel now;
      op_.redispatchBoxed(DispatchKeySet(DispatchKey::CPU), stack_);
    }
    if (generator_) generator_->set_state(host_generator_->get_state());
    const size_t first_result = stack_->size() - op_.schema().returns().size();
    for (size_t i = first_result; i < stack_->size(); i++) take_result((*stack_)[i]);
  }

 private:
  void take_argument(c10::IValue& value, const std::string& name) {
    if (value.isTensor()) {
      value = to_host(value.toTensor());
    } else if (value.isTensorList()) {
      std::vector<Tensor> tensors;
      for (const Tensor& tensor : value.toTensorVector()) tensors.push_back(to_host(tensor));
      value = tensors;
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<Tensor>> tensors;
      for (std::optional<Tensor> tensor : value.toOptionalTensorList())
        tensors.push_back(tensor ? std::optional<Tensor>(to_host(*tensor)) : std::nullopt);
      value = tensors;
    } else if (value.isGenerator()) {
      const at::Generator generator = value.toGenerator();
      TORCH_CHECK(on_kind(generator.device()), "Expected a 'cuda' device type for generator but found '",
                  generator.device().str(), "' (", op_.schema().name(), ")");
      value = draw_from(generator);
    } else if (value.isNone() && name == "generator") {
      value = draw_from(default_generator());
    } else if (value.isDevice() || (value.isNone() && name == "device")) {
      value = kHost;
    }
  }

  Tensor to_host(const Tensor& tensor) {
    if (!tensor.defined()) return tensor;
    if (on_kind(tensor)) {
      tensors_.emplace_back(tensor, on_host(tensor));
      return tensors_.back().second;
    }
    const std::string& name = op_.schema().name();
    if (tensor.dim() > 0 && kCopiesIndices.count(name) > 0) {
      report_wait(name.substr(6) + " by indices on the host");
    } else {
      TORCH_CHECK(tensor.dim() == 0, "Expected all tensors to be on the same device, but found at least two devices, "
                  "cuda:0 and cpu! (", name, ")");
    }
    return tensor;
  }

  at::Generator draw_from(const at::Generator& generator) {
    generator_ = generator;
    host_generator_ = at::make_generator<at::CPUGeneratorImpl>();
    host_generator_->set_state(generator.get_state());
    return *host_generator_;
  }

  void take_result(c10::IValue& value) {
    if (value.isTensor()) {
      value = to_device(value.toTensor());
    } else if (value.isTensorList()) {
      std::vector<Tensor> tensors;
      for (const Tensor& tensor : value.toTensorVector()) tensors.push_back(to_device(tensor));
      value = tensors;
    }
  }

  // Return the argument that a result is, a view of the argument whose memory it has, or a new tensor.
  Tensor to_device(const Tensor& result) {
    if (!result.defined() || on_kind(result)) return result;
    for (auto& [device, host] : tensors_) {
      if (!result.is_same(host)) continue;
      if (result.storage().data() != device.storage().data())
        device.unsafeGetTensorImpl()->set_storage_keep_dtype(on_device(result).storage());
      device.unsafeGetTensorImpl()->set_sizes_and_strides(result.sizes(), result.strides(), result.storage_offset());
      return device;
    }
    for (auto& [device, host] : tensors_) {
      if (result.storage().nbytes() == 0 || result.storage().data() != device.storage().data()) continue;
      Tensor view = at::detail::make_tensor<at::TensorImpl>(c10::TensorImpl::VIEW, at::Storage(device.storage()),
                                                            device.key_set(), result.dtype());
      view.unsafeGetTensorImpl()->set_sizes_and_strides(result.sizes(), result.strides(), result.storage_offset());
      return view;
    }
    return on_device(result);
  }

  const c10::OperatorHandle& op_;
  torch::jit::Stack* stack_;
  std::vector<std::pair<Tensor, Tensor>> tensors_;  // arguments: on the device, and as the CPU's kernel gets them
  std::optional<at::Generator> generator_, host_generator_;
};

void run_on_host(const c10::OperatorHandle& op, DispatchKeySet, torch::jit::Stack* stack) { Call(op, stack).run(); }

Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
             std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  check_dtype(c10::dtype_or_default(dtype));
  return at::detail::empty_generic(size, &device_memory, DispatchKeySet(kKey),
                                   c10::dtype_or_default(dtype), format);
}

Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                     std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  check_dtype(c10::dtype_or_default(dtype));
  return at::detail::empty_strided_generic(size, stride, &device_memory, DispatchKeySet(kKey),
                                           c10::dtype_or_default(dtype));
}

const Tensor& resize(const Tensor& tensor, at::IntArrayRef size, std::optional<at::MemoryFormat>) {
  Tensor host = on_host(tensor);
  host.resize_(size);
  if (host.storage().data() != tensor.storage().data())
    tensor.unsafeGetTensorImpl()->set_storage_keep_dtype(on_device(host).storage());
  tensor.unsafeGetTensorImpl()->set_sizes_contiguous(size);
  return tensor;
}

Tensor& copy(Tensor& to, const Tensor& from, bool non_blocking) {
  if (on_kind(to) != on_kind(from)) {
    const Tensor& host = on_kind(to) ? from : to;
    if (!non_blocking || !is_pinned(host.storage().data()))
      report_wait(on_kind(to) ? "copy to the device" : "copy to the host");
  }
  InsideKernel now;
  Tensor target = on_host(to);
  target.copy_(on_host(from));
  return to;
}

Tensor& set_storage(Tensor& tensor, at::Storage storage, int64_t offset, at::IntArrayRef size, at::IntArrayRef stride) {
  tensor.unsafeGetTensorImpl()->set_storage_keep_dtype(std::move(storage));
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(size, stride, offset);
  return tensor;
}

Tensor& set_tensor(Tensor& tensor, const Tensor& source) {
  return set_storage(tensor, source.storage(), source.storage_offset(), source.sizes(), source.strides());
}

// The CPU has kernels for masks, dropout and grouped heads in no fused form, so all of it is computed step by step.
int64_t choose_attention(const Tensor&, const Tensor&, const Tensor&, const std::optional<Tensor>&, double, bool,
                         std::optional<double>, bool) {
  return 0;
}

// On CUDA these operators read 16 bits and write 32. The CPU's kernels do not.
Tensor softmax(const Tensor& x, int64_t dim, bool widens) {
  InsideKernel now;
  Tensor host = on_host(x);
  return on_device(at::_softmax(widens ? host.to(at::kFloat) : host, dim, false));
}

Tensor log_softmax(const Tensor& x, int64_t dim, bool widens) {
  InsideKernel now;
  Tensor host = on_host(x);
  return on_device(at::_log_softmax(widens ? host.to(at::kFloat) : host, dim, false));
}

Tensor softmax_backward(const Tensor& gradient, const Tensor& y, int64_t dim, at::ScalarType dtype) {
  InsideKernel now;
  return on_device(at::_softmax_backward_data(on_host(gradient), on_host(y), dim, y.scalar_type()).to(dtype));
}

Tensor log_softmax_backward(const Tensor& gradient, const Tensor& y, int64_t dim, at::ScalarType dtype) {
  InsideKernel now;
  return on_device(at::_log_softmax_backward_data(on_host(gradient), on_host(y), dim, y.scalar_type()).to(dtype));
}

}  // namespace

TORCH_LIBRARY_IMPL(_, DEVICE_KEY, library) { library.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_host>()); }

TORCH_LIBRARY_IMPL(aten, DEVICE_KEY, library) {
  library.impl("empty.memory_format", empty);
  library.impl("empty_strided", empty_strided);
  library.impl("resize_", resize);
  library.impl("copy_", copy);
  library.impl("set_.source_Storage_storage_offset", set_storage);
  library.impl("set_.source_Tensor", set_tensor);
  library.impl("_fused_sdp_choice", choose_attention);
  library.impl("_softmax", softmax);
  library.impl("_log_softmax", log_softmax);
  library.impl("_softmax_backward_data", softmax_backward);
  library.impl("_log_softmax_backward_data", log_softmax_backward);
  // These have kernels for all devices, which would choose one that a CPU build of torch does not have.
  for (const char* name : {"convolution", "convolution_backward", "native_group_norm", "native_group_norm_backward"})
    library.impl(name, torch::CppFunction::makeFromBoxedFunction<&run_on_host>());
}

extern "C" void listen(int (*callback)()) {
  listener = callback;
  c10::SetAllocator(kType, &device_memory, 1);
}
