// grpc_ping_client PORT CA CHANNELS IN_FLIGHT SECONDS: closed loop of Pings with a 1 KiB reply, IN_FLIGHT on each channel.
// Prints one JSON object: {"calls_per_second":..,"p50_us":..,"p99_us":..}. The callback API, one call object per slot.
#include "ping.grpc.pb.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <grpcpp/grpcpp.h>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

namespace
{
using Clock = std::chrono::steady_clock;
constexpr std::size_t kSamplesMax = 8'000'000;
constexpr std::uint32_t kReplyBytes = 1024;
constexpr auto kWarmUp = std::chrono::milliseconds(500);

std::atomic<std::size_t> finished{0};
std::atomic<bool> stopping{false};
std::vector<float> latencies_us(kSamplesMax);

class Slot
{
  public:
    explicit Slot(grpc_peer::PingService::Stub *stub) : stub_(stub) { request_.set_reply_bytes(kReplyBytes); }
    void start()
    {
        context_.emplace();
        begun_ = Clock::now();
        stub_->async()->Ping(&*context_, &request_, &reply_, [this](grpc::Status status) { done(status); });
    }

  private:
    void done(const grpc::Status &status)
    {
        if (stopping)
            return;
        if (!status.ok() || reply_.payload().size() != kReplyBytes) {
            std::fprintf(stderr, "grpc_ping_client: %s\n", status.error_message().c_str());
            std::_Exit(1);
        }
        std::size_t index = finished++;
        if (index < kSamplesMax)
            latencies_us[index] = std::chrono::duration<float, std::micro>(Clock::now() - begun_).count();
        start();
    }
    grpc_peer::PingService::Stub *stub_;
    std::optional<grpc::ClientContext> context_;
    grpc_peer::PingRequest request_;
    grpc_peer::PingResponse reply_;
    Clock::time_point begun_;
};

std::string read_file(const char *path)
{
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

std::shared_ptr<grpc::Channel> connect(const std::string &address, const char *ca_file)
{
    grpc::SslCredentialsOptions tls;
    tls.pem_root_certs = read_file(ca_file);
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1); // a connection per channel
    auto channel = grpc::CreateCustomChannel(address, grpc::SslCredentials(tls), arguments);
    if (!channel->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(10))) {
        std::fprintf(stderr, "grpc_ping_client: no connection to %s\n", address.c_str());
        std::exit(1);
    }
    return channel;
}
} // namespace

int main(int argc, char **argv)
{
    if (argc != 6) {
        std::fprintf(stderr, "usage: grpc_ping_client PORT CA CHANNELS IN_FLIGHT SECONDS\n");
        return 2;
    }
    const int channels = std::atoi(argv[3]), in_flight = std::atoi(argv[4]);
    std::vector<std::shared_ptr<grpc::Channel>> open;
    std::vector<std::unique_ptr<grpc_peer::PingService::Stub>> stubs;
    std::vector<std::unique_ptr<Slot>> slots;
    for (int i = 0; i < channels; i++) {
        open.push_back(connect(std::string("localhost:") + argv[1], argv[2]));
        stubs.push_back(grpc_peer::PingService::NewStub(open.back()));
        for (int j = 0; j < in_flight; j++)
            slots.push_back(std::make_unique<Slot>(stubs.back().get()));
    }
    for (auto &slot : slots)
        slot->start();
    std::this_thread::sleep_for(kWarmUp);
    const std::size_t first = finished;
    const auto begun = Clock::now();
    std::this_thread::sleep_for(std::chrono::duration<double>(std::atof(argv[5])));
    const std::size_t last = std::min<std::size_t>(finished, kSamplesMax);
    const double seconds = std::chrono::duration<double>(Clock::now() - begun).count();
    stopping = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(200)); // the calls still in flight end unmeasured
    std::sort(latencies_us.begin() + first, latencies_us.begin() + last);
    const std::size_t count = last - first;
    if (count == 0)
        return 1;
    std::printf("{\"calls_per_second\":%.0f,\"p50_us\":%.1f,\"p99_us\":%.1f}\n", count / seconds, latencies_us[first + count / 2],
                latencies_us[first + count * 99 / 100]);
    std::fflush(stdout);
    std::_Exit(0); // tearing down the callback threads is not part of the measurement
}
