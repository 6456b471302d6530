// grpc_ping_server CERTIFICATE KEY: answers Ping over TLS on a free loopback port, prints the port, ends when stdin does.
#include "ping.grpc.pb.h"

#include <cstdio>
#include <fstream>
#include <grpcpp/grpcpp.h>
#include <memory>
#include <sstream>
#include <string>
#include <unistd.h>

namespace
{
std::string read_file(const char *path)
{
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

class PingService final : public grpc_peer::PingService::CallbackService
{
    grpc::ServerUnaryReactor *Ping(grpc::CallbackServerContext *context, const grpc_peer::PingRequest *request, grpc_peer::PingResponse *reply) override
    {
        if (request->reply_bytes() > 0)
            reply->mutable_payload()->assign(request->reply_bytes(), 'x');
        else
            reply->set_payload(request->payload());
        grpc::ServerUnaryReactor *reactor = context->DefaultReactor();
        reactor->Finish(grpc::Status::OK);
        return reactor;
    }
};
} // namespace

int main(int argc, char **argv)
{
    if (argc != 3) {
        std::fprintf(stderr, "usage: grpc_ping_server CERTIFICATE KEY\n");
        return 2;
    }
    grpc::SslServerCredentialsOptions tls;
    tls.pem_key_cert_pairs.push_back({read_file(argv[2]), read_file(argv[1])});
    PingService service;
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::SslServerCredentials(tls), &port);
    builder.RegisterService(&service);
    std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
    if (!server || port == 0) {
        std::fprintf(stderr, "grpc_ping_server: cannot listen\n");
        return 1;
    }
    std::printf("%d\n", port);
    std::fflush(stdout);
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    server->Shutdown();
    return 0;
}
