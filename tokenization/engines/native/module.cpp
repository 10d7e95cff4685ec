// The Python side of the encoder; `_bpe.pyi` tells what it offers.

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "encoder.hpp"

namespace {

using bpe::Token;

struct State {
  std::vector<std::uint8_t> kinds;
  std::unique_ptr<bpe::Encoder> encoder;
  std::vector<Token> tokens;  // of one call; kept, since fresh memory costs as much as filling it
  std::mutex busy;
};

struct Bpe {
  PyObject_HEAD
  State* state;
};

struct PythonError {};

// Runs `make`; what it throws becomes a Python exception, and the result a null pointer.
template <typename Make>
PyObject* guarded(Make make) {
  try {
    return make();
  } catch (const PythonError&) {
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  }
  return nullptr;
}

struct WithoutInterpreter {
  PyThreadState* thread = PyEval_SaveThread();
  ~WithoutInterpreter() { PyEval_RestoreThread(thread); }
};

using Reference = std::unique_ptr<PyObject, decltype(&Py_DecRef)>;

struct Buffer {
  Py_buffer view;

  explicit Buffer(PyObject* object) {
    if (PyObject_GetBuffer(object, &view, PyBUF_SIMPLE) != 0) throw PythonError();
  }
  ~Buffer() { PyBuffer_Release(&view); }

  template <typename T>
  const T* data() const { return static_cast<const T*>(view.buf); }
};

std::string_view utf8(PyObject* text) {
  Py_ssize_t size;
  const char* data = PyUnicode_AsUTF8AndSize(text, &size);
  if (data == nullptr) throw PythonError();
  return {data, static_cast<std::size_t>(size)};
}

template <typename Use>
void each_item(PyObject* dictionary, Use use) {
  PyObject *key, *value;
  for (Py_ssize_t position = 0; PyDict_Next(dictionary, &position, &key, &value);) {
    const long token = PyLong_AsLong(value);
    if (PyErr_Occurred()) throw PythonError();
    if (token < 0 || token > bpe::kLargestToken) throw std::invalid_argument("a token is too large");
    use(std::string(utf8(key)), static_cast<Token>(token));
  }
}

PyObject* create(PyTypeObject* type, PyObject* arguments, PyObject*) {
  return guarded([&]() -> PyObject* {
    PyObject *kinds, *byte_tokens, *merges, *whole, *added;
    int digits;
    if (!PyArg_ParseTuple(arguments, "OOOiO!O!", &kinds, &byte_tokens, &merges, &digits, &PyDict_Type, &whole,
                          &PyDict_Type, &added))
      return nullptr;
    const Buffer kind_buffer(kinds), byte_buffer(byte_tokens), merge_buffer(merges);
    if (kind_buffer.view.len != bpe::kCodePoints || byte_buffer.view.len != 256 * sizeof(Token) ||
        merge_buffer.view.len % sizeof(bpe::Merge) != 0)
      throw std::invalid_argument("a table is too long or too short");
    auto state = std::make_unique<State>();
    const auto* kind = kind_buffer.data<std::uint8_t>();
    state->kinds.assign(kind, kind + bpe::kCodePoints);
    const auto unknown = [](std::uint8_t kind) { return (kind & ~bpe::kPerhapsNotNormal) > bpe::kNewline; };
    if (std::any_of(state->kinds.begin(), state->kinds.end(), unknown))
      throw std::invalid_argument("a code point is of no kind");
    state->encoder = std::make_unique<bpe::Encoder>(
        bpe::Splitter(state->kinds.data(), digits),
        bpe::Merges(byte_buffer.data<Token>(), merge_buffer.data<bpe::Merge>(),
                    merge_buffer.view.len / sizeof(bpe::Merge)));
    each_item(whole, [&](std::string text, Token token) { state->encoder->add_whole(std::move(text), token); });
    each_item(added, [&](std::string text, Token token) { state->encoder->add_token(std::move(text), token); });
    auto allocate = reinterpret_cast<allocfunc>(PyType_GetSlot(type, Py_tp_alloc));
    PyObject* self = allocate(type, 0);
    if (self != nullptr) reinterpret_cast<Bpe*>(self)->state = state.release();
    return self;
  });
}

void destroy(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  delete reinterpret_cast<Bpe*>(self)->state;
  reinterpret_cast<freefunc>(PyType_GetSlot(type, Py_tp_free))(self);
  Py_DECREF(type);
}

PyObject* encode(PyObject* self, PyObject* arguments) {
  return guarded([&]() -> PyObject* {
    PyObject* texts;  // a tuple: it cannot change while other threads run
    PyObject* normal;
    int end;
    if (!PyArg_ParseTuple(arguments, "O!Oi", &PyTuple_Type, &texts, &normal, &end)) return nullptr;
    State& state = *reinterpret_cast<Bpe*>(self)->state;
    std::vector<Reference> normalized;
    std::vector<std::string_view> views(PyTuple_Size(texts));
    std::size_t most = bpe::Encoder::kSlack;
    for (std::size_t i = 0; i < views.size(); ++i) {
      PyObject* text = PyTuple_GetItem(texts, i);
      views[i] = utf8(text);
      if (normal != Py_None && state.encoder->perhaps_not_normal(views[i])) {
        normalized.emplace_back(PyObject_CallFunctionObjArgs(normal, text, nullptr), Py_DecRef);
        if (normalized.back() == nullptr) throw PythonError();
        views[i] = utf8(normalized.back().get());
      }
      most += views[i].size() + 1;
    }
    std::vector<std::int64_t> offsets(1);
    offsets.reserve(views.size() + 1);
    std::unique_lock<std::mutex> lock(state.busy, std::defer_lock);
    {
      const WithoutInterpreter released;
      lock.lock();
      if (state.tokens.size() < most) state.tokens = std::vector<Token>(most);
      Token* out = state.tokens.data();
      for (const std::string_view text : views) {
        out = state.encoder->encode(text, out);
        if (end >= 0) *out++ = end;
        offsets.push_back(out - state.tokens.data());
      }
    }
    return Py_BuildValue("y#y#", state.tokens.data(), static_cast<Py_ssize_t>(offsets.back() * sizeof(Token)),
                         offsets.data(), static_cast<Py_ssize_t>(offsets.size() * sizeof(std::int64_t)));
  });
}

PyMethodDef methods[] = {{"encode", encode, METH_VARARGS, nullptr}, {nullptr, nullptr, 0, nullptr}};
PyType_Slot slots[] = {
    {Py_tp_new, reinterpret_cast<void*>(create)},
    {Py_tp_dealloc, reinterpret_cast<void*>(destroy)},
    {Py_tp_methods, methods},
    {0, nullptr},
};
PyType_Spec spec = {"tokenization.engines._bpe.Bpe", sizeof(Bpe), 0, Py_TPFLAGS_DEFAULT, slots};
PyModuleDef module = {PyModuleDef_HEAD_INIT, "_bpe", nullptr, 0, nullptr, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__bpe() {
  PyObject* result = PyModule_Create(&module);
  if (result == nullptr) return nullptr;
  PyObject* type = PyType_FromSpec(&spec);
  if (type == nullptr || PyModule_AddObjectRef(result, "Bpe", type) != 0) Py_CLEAR(result);
  Py_XDECREF(type);
  return result;
}
