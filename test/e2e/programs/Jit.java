// Compiled code, records, streams on several threads, exceptions that are faults, garbage.
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import java.util.stream.*;
public class Jit {
    static int fib(int n) {
        return n < 2 ? n : fib(n - 1) + fib(n - 2);
    }
    interface S {
        double area();
    }
    record C(double r) implements S {
        public double area() {
            return Math.PI * r * r;
        }
    }
    record Q(double a) implements S {
        public double area() {
            return a * a;
        }
    }
    public static void main(String[] a) throws Exception {
        System.out.println(fib(30));
        double t = 0;
        for (int i = 0; i < 2000000; i++) {
            S s = i % 2 == 0 ? new C(i % 10) : new Q(i % 7);
            t += s.area();
        }
        System.out.printf("%.6f%n", t);
        System.out.println(IntStream.range(0, 300000)
                               .parallel()
                               .mapToObj(i -> Integer.toString(i, 7))
                               .filter(s -> s.contains("33"))
                               .mapToLong(String::length)
                               .sum());
        ExecutorService ex = Executors.newFixedThreadPool(4);
        AtomicLong l = new AtomicLong();
        List<Future<Long>> fs = new ArrayList<>();
        for (int k = 0; k < 16; k++) {
            final int kk = k;
            fs.add(ex.submit(() -> {
                long s = 0;
                Map<String, Integer> m = new HashMap<>();
                for (int i = 0; i < 20000; i++) m.merge("x" + (i * kk % 997), 1, Integer::sum);
                for (int v : m.values()) s += (long) v * v;
                l.addAndGet(s);
                return s;
            }));
        }
        long sum = 0;
        for (Future<Long> f : fs) sum += f.get();
        ex.shutdown();
        System.out.println(sum + " " + (sum == l.get()));
        int npe = 0;
        Object o = null;
        for (int i = 0; i < 50000; i++) {
            try {
                if (i % 5 == 0)
                    o = null;
                else
                    o = "s";
                npe += o.hashCode() & 1;
            } catch (NullPointerException e) {
                npe += 3;
            }
        }
        System.out.println(npe);
        int dz = 0;
        for (int i = 0; i < 50000; i++) {
            try {
                dz += 100 / (i % 4);
            } catch (ArithmeticException e) {
                dz += 7;
            }
        }
        System.out.println(dz);
        try {
            rec(0);
        } catch (StackOverflowError e) {
            System.out.println("overflow");
        }
        List<byte[]> keep = new ArrayList<>();
        for (int i = 0; i < 3000; i++) {
            byte[] b = new byte[20000];
            b[i % 20000] = (byte) i;
            if (i % 50 == 0)
                keep.add(b);
        }
        System.gc();
        int c = 0;
        for (byte[] b : keep)
            for (byte x : b) c += x;
        System.out.println(c);
        synchronized (Jit.class) {
            System.out.println(Thread.holdsLock(Jit.class));
        }
        System.out.println(
            new java.math.BigInteger("3").pow(2000).mod(java.math.BigInteger.valueOf(1000000007L)));
    }
    static int rec(int n) {
        return rec(n + 1) + 1;
    }
}
