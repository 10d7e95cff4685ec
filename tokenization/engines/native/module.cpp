// The Python side of the encoder; `_bpe.pyi` tells what it offers.

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "encoder.hpp"

namespace {

using bpe::Token;

struct Bpe {
  PyObject_HEAD
  struct State {
    std::string kinds;
    std::unique_ptr<bpe::Encoder> encoder;
    std::vector<Token> tokens;
    std::mutex busy;
  }* state;
};

struct PythonError {};

struct WithoutInterpreter {
  PyThreadState* thread = PyEval_SaveThread();
  ~WithoutInterpreter() { PyEval_RestoreThread(thread); }
};

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
    const Token token = static_cast<Token>(PyLong_AsLong(value));
    if (PyErr_Occurred()) throw PythonError();
    use(std::string(utf8(key)), token);
  }
}

int init(PyObject* self, PyObject* arguments, PyObject*) try {
  PyObject *kinds, *byte_tokens, *merges, *whole, *added;
  int digits;
  if (!PyArg_ParseTuple(arguments, "OOOiO!O!", &kinds, &byte_tokens, &merges, &digits, &PyDict_Type, &whole,
                        &PyDict_Type, &added))
    return -1;
  const Buffer kind_buffer(kinds), byte_buffer(byte_tokens), merge_buffer(merges);
  if (kind_buffer.view.len != bpe::kCodePoints || byte_buffer.view.len != 256 * sizeof(Token) ||
      merge_buffer.view.len % sizeof(bpe::Merge) != 0) {
    PyErr_SetString(PyExc_ValueError, "a table is too long or too short");
    return -1;
  }
  auto state = std::make_unique<Bpe::State>();
  state->kinds.assign(kind_buffer.data<char>(), bpe::kCodePoints);
  state->encoder = std::make_unique<bpe::Encoder>(
      bpe::Splitter(reinterpret_cast<const bpe::Kind*>(state->kinds.data()), digits),
      bpe::Merges(byte_buffer.data<Token>(), merge_buffer.data<bpe::Merge>(),
                  merge_buffer.view.len / sizeof(bpe::Merge)));
  each_item(whole, [&](std::string text, Token token) { state->encoder->add_whole(std::move(text), token); });
  each_item(added, [&](std::string text, Token token) { state->encoder->add_token(std::move(text), token); });
  reinterpret_cast<Bpe*>(self)->state = state.release();
  return 0;
} catch (const PythonError&) {
  return -1;
} catch (const std::bad_alloc&) {
  PyErr_NoMemory();
  return -1;
}

void dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  delete reinterpret_cast<Bpe*>(self)->state;
  reinterpret_cast<freefunc>(PyType_GetSlot(type, Py_tp_free))(self);
  Py_DECREF(type);
}

PyObject* encode(PyObject* self, PyObject* arguments) try {
  PyObject* texts;
  int end;
  if (!PyArg_ParseTuple(arguments, "O!i", &PyList_Type, &texts, &end)) return nullptr;
  std::vector<std::string_view> views(PyList_Size(texts));
  std::size_t most = bpe::Encoder::kSlack;
  for (std::size_t i = 0; i < views.size(); ++i) {
    views[i] = utf8(PyList_GetItem(texts, i));
    most += views[i].size() + 1;
  }
  std::vector<std::int64_t> offsets(1);
  offsets.reserve(views.size() + 1);
  Bpe::State& state = *reinterpret_cast<Bpe*>(self)->state;
  std::unique_lock<std::mutex> lock(state.busy, std::defer_lock);
  {
    const WithoutInterpreter released;
    lock.lock();
    if (state.tokens.size() < most) state.tokens.resize(most);
    Token* out = state.tokens.data();
    for (const std::string_view text : views) {
      out = state.encoder->encode(text, out);
      if (end >= 0) *out++ = end;
      offsets.push_back(out - state.tokens.data());
    }
  }
  return Py_BuildValue("y#y#", state.tokens.data(), static_cast<Py_ssize_t>(offsets.back() * sizeof(Token)),
                       offsets.data(), static_cast<Py_ssize_t>(offsets.size() * sizeof(std::int64_t)));
} catch (const PythonError&) {
  return nullptr;
} catch (const std::bad_alloc&) {
  return PyErr_NoMemory();
}

PyMethodDef methods[] = {{"encode", encode, METH_VARARGS, nullptr}, {nullptr, nullptr, 0, nullptr}};
PyType_Slot slots[] = {
    {Py_tp_new, reinterpret_cast<void*>(PyType_GenericNew)},
    {Py_tp_init, reinterpret_cast<void*>(init)},
    {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
    {Py_tp_methods, methods},
    {0, nullptr},
};
PyType_Spec spec = {"tokenization.engines._bpe.Bpe", sizeof(Bpe), 0, Py_TPFLAGS_DEFAULT, slots};
PyModuleDef module = {PyModuleDef_HEAD_INIT, "_bpe", nullptr, 0, nullptr, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__bpe() {
  PyObject* result = PyModule_Create(&module);
  PyObject* type = result == nullptr ? nullptr : PyType_FromSpec(&spec);
  if (type == nullptr || PyModule_AddObjectRef(result, "Bpe", type) != 0) return nullptr;
  return result;
}
