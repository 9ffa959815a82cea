import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;

/** The JDK's own HTTP server on a thread pool, its state on the heap; every answer leaves work for the garbage collector. */
public class Server {
  public static void main(String[] arguments) throws Exception {
    ConcurrentHashMap<String, Integer> counts = new ConcurrentHashMap<>();
    ConcurrentHashMap<String, byte[]> garbage = new ConcurrentHashMap<>();
    HttpServer server = HttpServer.create(new InetSocketAddress("0.0.0.0", 8080), 100);
    server.setExecutor(Executors.newFixedThreadPool(16));
    server.createContext("/add/", exchange -> {
      exchange.getRequestBody().readAllBytes();
      String name = exchange.getRequestURI().getPath().substring("/add/".length());
      int count = counts.merge(name, 1, Integer::sum);
      garbage.put(name, new byte[100_000]);
      byte[] answer = Integer.toString(count).getBytes();
      exchange.sendResponseHeaders(200, answer.length);
      exchange.getResponseBody().write(answer);
      exchange.close();
    });
    server.start();
  }
}
