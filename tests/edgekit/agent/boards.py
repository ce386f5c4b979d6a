"""Trees of /sys as boards have them, for tests: paths and contents as the kernels of these boards give them."""

from __future__ import annotations

from pathlib import Path

# from a Raspberry Pi 5 under load, as published with a script that sums it up
PMIC = """\
 3V7_WL_SW_A current(0)=0.00000000A
   3V3_SYS_A current(1)=0.06245952A
   1V8_SYS_A current(2)=0.16102850A
  DDR_VDD2_A current(3)=0.00780744A
  DDR_VDDQ_A current(4)=0.00000000A
   1V1_SYS_A current(5)=0.17566740A
    0V8_SW_A current(6)=0.32791250A
  VDD_CORE_A current(7)=10.87674000A
   3V3_DAC_A current(17)=0.00036630A
   3V3_ADC_A current(18)=0.00042735A
   0V8_AON_A current(16)=0.00579975A
      HDMI_A current(22)=0.01367520A
 3V7_WL_SW_V volt(8)=3.79999600V
   3V3_SYS_V volt(9)=3.30632200V
   1V8_SYS_V volt(10)=1.79828900V
  DDR_VDD2_V volt(11)=1.10292900V
  DDR_VDDQ_V volt(12)=0.60476130V
   1V1_SYS_V volt(13)=1.10439400V
    0V8_SW_V volt(14)=0.80256330V
  VDD_CORE_V volt(15)=0.89745940V
   3V3_DAC_V volt(20)=3.30494200V
   3V3_ADC_V volt(21)=3.30219400V
   0V8_AON_V volt(19)=0.79736190V
      HDMI_V volt(23)=5.07056000V
     EXT5V_V volt(24)=5.06788000V
      BATT_V volt(25)=3.01110800V
"""


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def tool(folder: Path, name: str, script: str) -> None:
    """A command that is found on PATH once `folder` is."""
    path = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)


def pi_4(root: Path) -> None:
    """Kernel with get_throttled in /sys; one thermal zone; no power sensor."""
    cpu = "sys/devices/system/cpu/cpu"
    write(
        root,
        {
            f"{cpu}0/cpufreq/scaling_cur_freq": "1800000\n",
            f"{cpu}1/cpufreq/scaling_cur_freq": "1800000\n",
            f"{cpu}0/cpufreq/scaling_governor": "ondemand\n",
            f"{cpu}0/cpufreq/scaling_min_freq": "600000\n",
            f"{cpu}0/cpufreq/scaling_max_freq": "1800000\n",
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
            "sys/class/thermal/thermal_zone0/temp": "61342\n",
            "sys/devices/platform/soc/soc:firmware/get_throttled": "0\n",
            "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.5\0",
            "proc/device-tree/compatible": "raspberrypi,4-model-b\0brcm,bcm2711\0",
        },
    )


def pi_5(root: Path) -> None:
    """As the Pi 4, with a fan; its power is told by vcgencmd alone."""
    pi_4(root)
    write(
        root,
        {
            "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
            "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
            "sys/class/thermal/cooling_device0/cur_state": "3\n",
            "sys/class/hwmon/hwmon2/name": "pwmfan\n",
            "sys/class/hwmon/hwmon2/pwm1": "175\n",
            "sys/class/hwmon/hwmon2/fan1_input": "4870\n",
        },
    )


def orin_nano(root: Path) -> None:
    """JetPack 6: INA3221 by hwmon, counters of soctherm, GPU clock by devfreq, nvpmodel, clocks pinned."""
    cpu, hwmon = "sys/devices/system/cpu/cpu", "sys/class/hwmon/hwmon"
    write(
        root,
        {
            **{f"{cpu}{i}/cpufreq/scaling_cur_freq": "1510400\n" for i in range(2)},
            **{f"{cpu}{i}/cpufreq/scaling_min_freq": "1510400\n" for i in range(2)},
            **{f"{cpu}{i}/cpufreq/scaling_max_freq": "1510400\n" for i in range(2)},
            **{f"{cpu}{i}/cpufreq/scaling_governor": "schedutil\n" for i in range(2)},
            "sys/class/devfreq/17000000.gpu/cur_freq": "624750000\n",
            "sys/class/devfreq/17000000.gpu/device/of_node/name": "gpu\0",
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
            "sys/class/thermal/thermal_zone0/temp": "51312\n",
            "sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
            "sys/class/thermal/thermal_zone1/temp": "53500\n",
            "sys/class/thermal/thermal_zone2/type": "cv0-thermal\n",
            "sys/class/thermal/thermal_zone2/temp": "-256000\n",
            "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
            "sys/class/thermal/cooling_device0/cur_state": "2\n",
            "sys/class/thermal/cooling_device1/type": "cpu-throttle-alert\n",
            "sys/class/thermal/cooling_device1/cur_state": "0\n",
            f"{hwmon}1/name": "ina3221\n",
            f"{hwmon}1/in1_label": "VDD_IN\n",
            f"{hwmon}1/in1_input": "4984\n",
            f"{hwmon}1/curr1_input": "1856\n",
            f"{hwmon}1/in2_label": "VDD_CPU_GPU_CV\n",
            f"{hwmon}1/in2_input": "4976\n",
            f"{hwmon}1/curr2_input": "640\n",
            f"{hwmon}1/in3_label": "VDD_SOC\n",
            f"{hwmon}1/in3_input": "4976\n",
            f"{hwmon}1/curr3_input": "480\n",
            f"{hwmon}1/in7_label": "sum of shunt voltages\n",
            f"{hwmon}1/in7_input": "12\n",
            f"{hwmon}1/curr7_input": "2976\n",
            f"{hwmon}3/name": "soctherm_oc\n",
            f"{hwmon}3/oc1_event_cnt": "0\n",
            f"{hwmon}3/oc2_event_cnt": "0\n",
            f"{hwmon}3/oc3_event_cnt": "27390\n",
            "var/lib/nvpmodel/status": "pmode:0001\n",
            "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
            "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0003\0nvidia,tegra234\0",
        },
    )


def agx_orin(root: Path) -> None:
    """No rail feeds all others; one channel is not connected."""
    hwmon = "sys/class/hwmon/hwmon"
    rails = {1: ("VDD_GPU_SOC", 8000, 500), 2: ("VDD_CPU_CV", 8000, 250), 3: ("VIN_SYS_5V0", 5000, 800)}
    for channel, (name, millivolts, milliamperes) in rails.items():
        write(
            root,
            {
                f"{hwmon}4/in{channel}_label": f"{name}\n",
                f"{hwmon}4/in{channel}_input": f"{millivolts}\n",
                f"{hwmon}4/curr{channel}_input": f"{milliamperes}\n",
            },
        )
    write(
        root,
        {
            f"{hwmon}4/name": "ina3221\n",
            f"{hwmon}5/name": "ina3221\n",
            f"{hwmon}5/in1_label": "NC\n",
            f"{hwmon}5/in1_input": "0\n",
            f"{hwmon}5/curr1_input": "0\n",
        },
    )


def nano(root: Path) -> None:
    """JetPack 4: rails by iio, one of them feeds all; GPU clock below gpu.0."""
    iio = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    write(
        root,
        {
            f"{iio}/rail_name_0": "POM_5V_IN\n",
            f"{iio}/in_power0_input": "4320\n",
            f"{iio}/rail_name_1": "POM_5V_GPU\n",
            f"{iio}/in_power1_input": "1520\n",
            f"{iio}/rail_name_2": "POM_5V_CPU\n",
            f"{iio}/in_power2_input": "1100\n",
            "sys/devices/gpu.0/devfreq/57000000.gpu/cur_freq": "921600000\n",
            "sys/class/hwmon/hwmon0/name": "tegra\n",
            "sys/class/hwmon/hwmon0/oc1_event_cnt": "4\n",
            "proc/device-tree/compatible": "nvidia,jetson-nano\0nvidia,tegra210\0",
        },
    )


def x86(root: Path) -> None:
    """Counters of thermal throttling, RAPL of two packages, one with memory of its own."""
    cpu, rapl = "sys/devices/system/cpu/cpu", "sys/class/powercap/intel-rapl:"
    write(
        root,
        {
            f"{cpu}0/thermal_throttle/core_throttle_count": "7\n",
            f"{cpu}0/thermal_throttle/package_throttle_count": "20\n",
            f"{cpu}1/thermal_throttle/core_throttle_count": "0\n",
            f"{cpu}1/thermal_throttle/package_throttle_count": "20\n",
            f"{rapl}0/name": "package-0\n",
            f"{rapl}0/energy_uj": "262143000000\n",
            f"{rapl}0/max_energy_range_uj": "262143328850\n",
            f"{rapl}0:0/name": "core\n",
            f"{rapl}0:0/energy_uj": "5000000\n",
            f"{rapl}0:1/name": "dram\n",
            f"{rapl}0:1/energy_uj": "1000000\n",
            f"{rapl}0:1/max_energy_range_uj": "65712999613\n",
            f"{rapl}1/name": "psys\n",
            f"{rapl}1/energy_uj": "9000000\n",
        },
    )
