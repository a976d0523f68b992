// SPDX-License-Identifier: Apache-2.0
#include "support/certificates.hpp"

#include <fstream>

#include "support/shell.hpp"

namespace millrace::test {

void make_certificates(const std::string& directory) {
  const std::string in = "cd " + quoted(directory) + " && ";
  const std::string key = "openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes ";
  const std::string quiet = " >>openssl.log 2>&1";
  run(in + key + "-x509 -days 2 -keyout ca.key -out ca.crt -subj '/CN=Millrace test CA'" + quiet);
  std::ofstream(directory + "/names") << "subjectAltName=DNS:localhost,IP:127.0.0.1\n";
  for (const std::string who : {"server", "client"}) {
    run(in + key + "-keyout " + who + ".key -out " + who + ".csr -subj /CN=" + who + quiet);
    run(in + "openssl x509 -req -in " + who +
        ".csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out " + who + ".crt" + quiet);
  }
}

}  // namespace millrace::test
