// The signature of an artifact: ed25519 (RFC 8032) of the bytes of its manifest, checked by OpenSSL's libcrypto.
//
// A program that defines TVM_BALANCED_OPENSSL and links libcrypto checks signatures; every other one refuses to be given a key.
#pragma once

#include <array>
#include <memory>
#include <string>

#if defined(TVM_BALANCED_OPENSSL)
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#endif

#include "error.hpp"
#include "files.hpp"
#include "manifest.hpp"

namespace tvm_balanced {

// The public key of who signs artifacts.
struct PublicKey {
  std::array<unsigned char, 32> bytes;

  // The key in a PEM file; throws Error where there is none.
  static PublicKey from_pem(const std::string& path);
};

#if defined(TVM_BALANCED_OPENSSL)

namespace detail {

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

inline bool is_signed_by(const PublicKey& key, const std::string& signature, const std::string& content) {
  Key made(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, key.bytes.data(), key.bytes.size()), EVP_PKEY_free);
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  auto bytes = [](const std::string& text) { return reinterpret_cast<const unsigned char*>(text.data()); };
  return made && context && EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, made.get()) == 1 &&
         EVP_DigestVerify(context.get(), bytes(signature), signature.size(), bytes(content), content.size()) == 1;
}

}  // namespace detail

inline PublicKey PublicKey::from_pem(const std::string& path) {
  std::string content;
  try {
    content = RegularFile(path).content();
  } catch (const std::filesystem::filesystem_error& error) {
    throw Error(text("the key ", path, " cannot be read (", error.code().message(), "); give the PEM file of an ed25519 public key"));
  }
  std::unique_ptr<BIO, decltype(&BIO_free)> source(BIO_new_mem_buf(content.data(), int(content.size())), BIO_free);
  detail::Key read(PEM_read_bio_PUBKEY(source.get(), nullptr, nullptr, nullptr), EVP_PKEY_free);
  PublicKey key;
  size_t size = key.bytes.size();
  bool whole = read && EVP_PKEY_base_id(read.get()) == EVP_PKEY_ED25519 &&
               EVP_PKEY_get_raw_public_key(read.get(), key.bytes.data(), &size) == 1 && size == key.bytes.size();
  if (!whole) throw Error(text(path, " holds no ed25519 public key; give the PEM file of one"));
  return key;
}

// Throws Error unless the artifact's signature is of these bytes of its manifest.
inline void check_signature(const std::string& directory, const std::string& content, const PublicKey& key) {
  std::string signature;
  try {
    signature = RegularFile(directory + "/" + kSignature).content();
  } catch (const std::filesystem::filesystem_error&) {
    throw Error(text(directory, " is not signed; load it without verify_key only if you trust it"));
  }
  if (!detail::is_signed_by(key, signature, content)) {
    throw Error(text(directory, " is not signed by this key, or was altered; do not load it, and copy it again from where it was signed"));
  }
}

#else

namespace detail {

inline Error no_openssl() {
  return Error("this program was built without OpenSSL and checks no signature; build it with TVM_BALANCED_OPENSSL, or give no verify_key");
}

}  // namespace detail

inline PublicKey PublicKey::from_pem(const std::string&) { throw detail::no_openssl(); }

inline void check_signature(const std::string&, const std::string&, const PublicKey&) { throw detail::no_openssl(); }

#endif

}  // namespace tvm_balanced
