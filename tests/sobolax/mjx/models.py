"""Tiny models, each with the situations that its mechanism is for as keyframes.

The solver converges to rounding (`_SOLVED`): only then are differences of its results derivatives.
Every model has at most 7 degrees of freedom, and mechanisms share one if failures stay distinct.
"""

_SOLVED = 'iterations="100" ls_iterations="50" tolerance="1e-15"'

# A free body with a link: quaternions, air, gravity compensation, no constraint at all.
# Keys: at rest (where MJX's own quaternions have no gradient), at rest upside down, spinning fast.
FLOATING = """
<mujoco>
  <option timestep="0.01" density="1.2" viscosity="0.3" wind="1 0.5 -0.2"/>
  <worldbody>
    <body name="body" pos="0 0 1" gravcomp="0.4">
      <freejoint/>
      <geom type="box" size="0.3 0.2 0.1" mass="1.5"/>
      <site name="site" pos="0.1 0.05 0.02" euler="20 30 0"/>
      <body pos="0.4 0 0">
        <joint name="link" axis="0 1 0.3"/>
        <geom type="capsule" fromto="0 0 0 0.3 0.1 0" size="0.05" mass="0.4"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="link" gear="0.7"/></actuator>
  <sensor>
    <framequat objtype="site" objname="site"/>
    <gyro site="site"/>
    <accelerometer site="site"/>
  </sensor>
  <keyframe>
    <key qpos="0 0 1 1 0 0 0 0"/>
    <key qpos="0.1 -0.2 0.9 0.1 0.7 -0.7 0.1 1.2"/>
    <key qpos="0 0 1 0.5 0.5 -0.5 0.5 -2" qvel="1 -2 0.5 25 -10 14 8"/>
  </keyframe>
</mujoco>
"""

# A ball joint with a hinge and a slide below it, all with limits, springs and damping. The ball's
# servo wraps around. Keys: within all limits, beyond some, beyond all.
BALL = """
<mujoco>
  <option timestep="0.005" SOLVED>FLAG</option>
  <default><geom contype="0" conaffinity="0"/></default>
  <worldbody>
    <body pos="0 0 1">
      <joint name="ball" type="ball" range="0 45" damping="0.2" stiffness="1" armature="0.01"/>
      <geom type="capsule" fromto="0 0 0 0.1 0.05 -0.4" size="0.05" mass="1"/>
      <body pos="0.1 0.05 -0.4">
        <joint name="hinge" axis="0 1 0" range="-40 50" damping="0.3" margin="0.01"/>
        <geom type="capsule" fromto="0 0 0 0 0.1 -0.3" size="0.04" mass="0.5"/>
        <body pos="0 0.1 -0.3">
          <joint name="slide" type="slide" axis="0 0.2 1" range="-0.1 0.15" damping="0.5"
                 solimplimit="0.8 0.95 0.05 0.3 3" stiffness="20" springref="0.02"/>
          <geom type="sphere" size="0.06" mass="0.3"/>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <position joint="ball" gear="0.2 1 0.3" kp="3" kv="0.1"/>
    <motor joint="hinge"/>
    <position joint="slide" kp="40" kv="1"/>
  </actuator>
  <sensor><ballquat joint="ball"/><jointvel joint="hinge"/></sensor>
  <keyframe>
    <key qpos="0.99 0.1 0 0.05 0 0"/>
    <key qpos="0.85 0.4 -0.3 0.17 0.95 0.05" qvel="1 -1 0.5 2 -0.3"/>
    <key qpos="0.85 -0.4 0.3 0.17 -0.8 0.17" qvel="-2 0.3 0.5 -1 0.2"/>
  </keyframe>
</mujoco>
"""

# Every kind of actuator; tendons with springs, dampers, limits and dry friction.
# Keys: within the tendons' limits, beyond.
ARM = """
<mujoco>
  <option timestep="0.004" integrator="implicitfast" SOLVED/>
  <default><geom contype="0" conaffinity="0"/></default>
  <worldbody>
    <site name="anchor" pos="0.3 0.1 0.4"/>
    <body>
      <joint name="shoulder" axis="0 1 0" damping="0.2"/>
      <geom type="capsule" fromto="0 0 0 0 0 -0.4" size="0.05" mass="1"/>
      <site name="upper" pos="0.05 0 -0.3"/>
      <body pos="0 0 -0.4">
        <joint name="elbow" axis="0 1 0.2" damping="0.1"/>
        <geom type="capsule" fromto="0 0 0 0.1 0 -0.3" size="0.04" mass="0.6"/>
        <body pos="0.1 0 -0.3">
          <joint name="slide" type="slide" axis="1 0 1" damping="0.5" frictionloss="2"/>
          <geom type="sphere" size="0.05" mass="0.3"/>
          <site name="tip" pos="0.02 0.01 -0.05"/>
        </body>
      </body>
    </body>
  </worldbody>
  <tendon>
    <spatial name="string" range="0.3 0.95" stiffness="5" damping="0.7" springlength="0.4"
             limited="true" solimplimit="0.7 0.95 0.1 0.5 3">
      <site site="anchor"/><site site="upper"/><site site="tip"/>
    </spatial>
    <fixed name="coupling" range="-0.6 0.7" limited="true" damping="0.3" frictionloss="0.3">
      <joint joint="shoulder" coef="1"/><joint joint="elbow" coef="-0.5"/>
    </fixed>
  </tendon>
  <actuator>
    <motor joint="shoulder" ctrllimited="true" ctrlrange="-2 2"/>
    <position joint="elbow" kp="6" kv="0.4"/>
    <velocity joint="slide" kv="3"/>
    <motor tendon="string" gear="2"/>
    <general joint="elbow" gaintype="affine" gainprm="1 0.3 -0.4"
             biastype="affine" biasprm="0.2 -0.5 -0.3"/>
    <intvelocity joint="shoulder" kp="4" actrange="-3 3"/>
    <general joint="slide" dyntype="filter" dynprm="0.03" gainprm="5"/>
    <general tendon="coupling" dyntype="filterexact" dynprm="0.02" gainprm="2"/>
    <muscle joint="elbow" lengthrange="-2 2" ctrlrange="0 1" force="6"/>
  </actuator>
  <sensor><actuatorfrc actuator="MUSCLE"/><tendonpos tendon="string"/></sensor>
  <keyframe>
    <key qpos="0.1 0.2 0" act="0.2 0.1 -0.1 0.4" ctrl="0 0 0 0 0 0 0 0 0.5"/>
    <key qpos="0.7 -0.5 0.1" qvel="2 -1 0.5" act="0.2 0.3 -0.2 0.6" ctrl="0.5 0 0 0 0 0 0 0 0.5"/>
    <key qpos="-0.7 0.9 0.05" qvel="-1 3 0.5" act="-0.2 0.1 0.3 0.3" ctrl="0.5 0 0 0 0 0 0 0 0.4"/>
  </keyframe>
</mujoco>
""".replace("MUSCLE", "muscle").replace("<muscle ", '<muscle name="muscle" ')

# All equalities: a fourbar closed by a connect, coupled joints, coupled tendons, a weld to a mocap.
# Keys: all satisfied to the last bit, pulled apart.
EQUALITIES = """
<mujoco>
  <option timestep="0.004" SOLVED/>
  <default><geom contype="0" conaffinity="0"/></default>
  <worldbody>
    <body name="mocap" mocap="true" pos="1 0.1 0.2"/>
    <body name="first">
      <joint name="p" axis="0 1 0"/>
      <geom type="capsule" fromto="0 0 0 0 0 -0.4" size="0.05" mass="1"/>
      <body name="second" pos="0 0 -0.4">
        <joint name="q" axis="0 1 0.2"/>
        <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.04" mass="0.6"/>
      </body>
    </body>
    <body pos="0 1 0">
      <joint name="a" type="slide" axis="1 0 0" armature="0.1"/>
      <geom type="sphere" size="0.1" mass="1"/>
    </body>
    <body pos="0 2 0">
      <joint name="b" axis="0 0 1" armature="0.02"/>
      <geom type="box" size="0.1 0.2 0.1" pos="0.1 0 0" mass="1"/>
    </body>
    <body name="welded" pos="1 0 0">
      <joint type="ball"/>
      <geom type="box" size="0.1 0.1 0.2" pos="0 0.05 0.1" mass="0.7"/>
    </body>
  </worldbody>
  <tendon>
    <fixed name="one"><joint joint="p" coef="1"/><joint joint="a" coef="0.5"/></fixed>
    <fixed name="two"><joint joint="q" coef="0.7"/><joint joint="b" coef="-0.5"/></fixed>
  </tendon>
  <equality>
    <connect body1="second" body2="world" anchor="0.3 0 0"
             solref="0.03 0.9" solimp="0.5 0.95 0.1 0.5 2"/>
    <joint joint1="a" joint2="b" polycoef="0 0.5 0.3 -0.1 0.05" solimp="0.5 0.95 0.2 0.5 2"/>
    <joint joint1="q" polycoef="0 0 0 0 0" solref="0.1 1" solimp="0.5 0.95 0.2 0.5 2"/>
    <tendon tendon1="one" tendon2="two" polycoef="0 0.8 0.2 0 0" solimp="0.5 0.95 0.2 0.5 2"/>
    <weld body1="welded" body2="mocap" torquescale="0.8"
          solref="0.05 1" solimp="0.5 0.95 0.2 0.4 2"/>
  </equality>
  <actuator><motor joint="p"/><motor joint="b"/></actuator>
  <keyframe>
    <key/>
    <key qpos="0.1 -0.05 0.05 0.1 0.9 0.2 -0.3 0.1" qvel="0.5 1 -0.3 0.8 1 -2 0.5"
         mpos="1.1 0 0.2"/>
  </keyframe>
</mujoco>
"""

# Polynomials of joints and tendons: of one, and of all degrees of another.
# Keys: all at their references, where polynomials of one deviate; some; none.
POLYNOMIALS = """
<mujoco>
  <compiler angle="radian"/>
  <option timestep="0.004" SOLVED/>
  <default>
    <geom contype="0" conaffinity="0" size="0.1"/>
    <equality solref="0.05 1" solimp="0.5 0.95 0.3 0.4 2"/>
  </default>
  <worldbody>
    <body><joint name="a" type="slide" axis="1 0 1"/><geom mass="1"/></body>
    <body><joint name="b" type="slide" axis="1 0 1"/><geom mass="0.5"/></body>
    <body><joint name="c" axis="0 1 0" ref="0.3"/><geom mass="0.7" pos="0.2 0 0"/></body>
    <body><joint name="d" type="slide" axis="0 1 1"/><geom mass="0.6"/></body>
    <body><joint name="e" axis="1 0 0"/><geom mass="0.8" pos="0 0.3 0"/></body>
  </worldbody>
  <tendon>
    <fixed name="one"><joint joint="d" coef="1"/><joint joint="a" coef="0.3"/></fixed>
    <fixed name="two"><joint joint="e" coef="0.8"/><joint joint="c" coef="0.1"/></fixed>
    <fixed name="three"><joint joint="b" coef="1"/><joint joint="e" coef="-0.4"/></fixed>
  </tendon>
  <equality>
    <joint joint1="a" polycoef="0.2 0 0 0 0"/>
    <joint joint1="b" joint2="c" polycoef="0 0.5 0.3 -0.2 0.1"/>
    <tendon tendon1="three" polycoef="0.1 0 0 0 0"/>
    <tendon tendon1="one" tendon2="two" polycoef="0 0.8 -0.4 0.3 0.2"/>
  </equality>
  <actuator><motor joint="b"/></actuator>
  <keyframe>
    <key qpos="0 0 0.3 0 0" qvel="0.5 -0.3 0.4 0.2 -0.6"/>
    <key qpos="0.2 0.05 0.3 0.1 0" qvel="0.2 0.3 -0.4 0.2 0.5" ctrl="0.3"/>
    <key qpos="0.1 -0.1 0.5 0.2 -0.25" qvel="-0.2 0.3 0.4 0.1 0.5" ctrl="0.3"/>
  </keyframe>
</mujoco>
"""

# Dry friction in joints and in a tendon. Keys: all stuck, one joint sliding, all sliding.
FRICTION_LOSS = """
<mujoco>
  <option timestep="0.005" gravity="0 0 -0.5" SOLVED/>
  <default><geom contype="0" conaffinity="0"/></default>
  <worldbody>
    <body>
      <joint name="slide" type="slide" axis="1 0 0" frictionloss="1.5"/>
      <geom type="box" size="0.1 0.1 0.1" mass="1"/>
      <body>
        <joint name="hinge" axis="0 1 0" frictionloss="0.4"/>
        <geom type="capsule" fromto="0 0 0 0 0 -0.4" size="0.04" mass="0.5"/>
      </body>
    </body>
    <body pos="0 1 0">
      <joint name="other" type="slide" axis="1 0 0"/>
      <geom type="box" size="0.1 0.1 0.1" mass="0.8"/>
    </body>
  </worldbody>
  <tendon>
    <fixed name="rope" frictionloss="0.8">
      <joint joint="slide" coef="1"/><joint joint="other" coef="-0.6"/>
    </fixed>
  </tendon>
  <actuator><motor joint="slide"/><motor joint="hinge"/><motor joint="other"/></actuator>
  <keyframe>
    <key/>
    <key qvel="1.5 0.01 0.2" ctrl="3 0.1 0.2"/>
    <key qpos="0 0.5 0" qvel="0.5 -2 -1" ctrl="3 -1 -3"/>
  </keyframe>
</mujoco>
"""

# A body on four feet, each with friction of another kind: none, sliding, torsional, rolling.
# Keys: stands, slides, just above the ground, on edge with two feet in the air, falls, spins.
FEET = """
<mujoco>
  <option timestep="0.005" SOLVED IMPRATIO CONE SOLVER/>
  <default><geom size="0.1" mass="0.3" solref="0.03 0.8" solimp="0.6 0.95 0.02 0.4 2"/></default>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 1" condim="1" friction="0.1 0.001 0.0001"/>
    <body name="body" pos="0 0 0.1">
      <freejoint/>
      <geom name="none" pos="0.3 0.2 0" condim="1" solimp="0.6 0.95 0.02 0.4 3" priority="1"/>
      <geom name="sliding" pos="-0.3 0.2 0.003" condim="3" friction="0.7 0.02 0.01"/>
      <geom name="torsional" pos="0.3 -0.2 0.002" condim="4" friction="0.5 0.1 0.01"/>
      <geom name="rolling" pos="-0.3 -0.2 0.001" condim="6" friction="0.8 0.05 0.03"/>
      <site name="site" pos="0.1 0 0.05"/>
    </body>
  </worldbody>
  <sensor><accelerometer site="site"/></sensor>
  <keyframe>
    <key qpos="0 0 0.093 1 0 0 0"/>
    <key qpos="0 0 0.091 1 0.003 -0.004 0" qvel="1.5 -0.7 -0.1 0.1 0.2 0.1"/>
    <key qpos="0 0 0.1015 1 0 0 0.2" qvel="0.3 0.5 -0.2 0 0 0"/>
    <key qpos="0 0 0.185 0.96 0.21 0.03 0.1" qvel="0.2 0.3 -0.1 0.3 0.4 0.5"/>
    <key qpos="0 0 0.09 0.3 0.001 -0.002 0.9" qvel="0.01 -0.02 -0.8 0.2 0.1 0"/>
    <key qpos="0 0 0.09 1 0.005 0.003 0" qvel="0.2 0 -0.05 0.1 0.1 6"/>
  </keyframe>
</mujoco>
"""

# A box in a plane on the ground, pushed by a ball; two capsules; a ball with a margin of contact.
# Keys: box stands and the ball pushes, box on edge and sliding, all apart.
SHAPES = """
<mujoco>
  <option timestep="0.005" cone="elliptic" SOLVED/>
  <default><geom contype="0" conaffinity="0" friction="0.5"/>
    <pair solref="0.03 0.9" solimp="0.7 0.95 0.01 0.5 2"/></default>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 1"/>
    <geom name="bar" type="capsule" fromto="2 -0.5 0.3 2 0.5 0.35" size="0.05"/>
    <body pos="0 0 0.2">
      <joint type="slide" axis="1 0 0"/>
      <joint type="slide" axis="0 0 1"/>
      <joint axis="0 1 0"/>
      <geom name="box" type="box" size="0.15 0.1 0.2" mass="1"/>
    </body>
    <body pos="-0.3 0.02 0.18">
      <joint name="pusher" type="slide" axis="1 0 0.1" damping="0.1"/>
      <joint axis="0 1 0" damping="0.1"/>
      <geom name="ball" type="sphere" size="0.1" mass="0.4"/>
    </body>
    <body pos="1.7 0.1 0.42">
      <joint axis="0 1 0.1"/>
      <geom name="stick" type="capsule" fromto="0 0 0 0.5 0.2 0" size="0.04" mass="0.4"/>
    </body>
    <body pos="4 0 0.11">
      <joint type="slide" axis="0.3 0 1"/>
      <geom name="margin" type="sphere" size="0.1" mass="0.4"/>
    </body>
  </worldbody>
  <contact>
    <pair geom1="floor" geom2="box"/>
    <pair geom1="ball" geom2="box"/>
    <pair geom1="bar" geom2="stick"/>
    <pair geom1="floor" geom2="margin" margin="0.03" gap="0.005"/>
  </contact>
  <actuator><motor joint="pusher"/></actuator>
  <keyframe>
    <key qpos="0 -0.004 0.003 0.055 0.1 0.04 0" ctrl="1"/>
    <key qpos="0 0.01 0.1 0.057 0.1 0.07 -0.002" qvel="0.8 -0.1 0.3 0.5 1 1 -0.3"/>
    <key qpos="0 0.04 0.1 -0.2 0 -0.3 0.1" qvel="0.8 -0.1 0.3 0.5 1 1 -0.3"/>
  </keyframe>
</mujoco>
"""

# A rod that lands on one end, in a plane: a few degrees of freedom for what needs more programs.
# Keys: slides, in the air.
ROD = """
<mujoco>
  <option timestep="0.005" SOLVED/>
  <default><geom contype="0" conaffinity="0"/></default>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 1" contype="1"/>
    <body pos="0 0 0.3">
      <joint type="slide" axis="1 0 0" damping="0.1"/>
      <joint type="slide" axis="0 0 1" damping="0.2"/>
      <joint name="hinge" axis="0 1 0" damping="0.05"/>
      <geom name="rod" type="capsule" fromto="0 0 -0.25 0.05 0 0.25" size="0.06" mass="0.8"
            solimp="0.7 0.95 0.01 0.4 POWER" solref="0.03 0.9" friction="0.6" priority="1"
            conaffinity="1"/>
    </body>
  </worldbody>
  <actuator><motor joint="hinge"/></actuator>
  <keyframe>
    <key qpos="0 -0.02 0.2" qvel="1.5 -0.3 0.5" ctrl="0.2"/>
    <key qpos="0 0.05 0.4" qvel="0.5 -0.3 -0.2" ctrl="-0.2"/>
  </keyframe>
</mujoco>
"""

# A puck on the ground that carries a pendulum: contact, dry friction, a limit and damping at once.
# Keys: slides beyond the limit, sticks, in the air beyond the limit.
PUCK = """
<mujoco>
  <option timestep="0.005" SOLVED cone="CONE" integrator="INTEGRATOR"/>
  <default><geom contype="0" conaffinity="0"/></default>
  <worldbody>
    <geom type="plane" size="5 5 1" contype="1"/>
    <body pos="0 0 0.1">
      <joint type="slide" axis="1 0 0" frictionloss="0.3"/>
      <joint type="slide" axis="0 0 1"/>
      <geom type="sphere" size="0.1" mass="1" conaffinity="1" friction="0.6"
            solref="0.03 0.9" solimp="0.7 0.95 0.01 0.4 2" priority="1"/>
      <body>
        <joint name="hinge" axis="0 1 0" damping="0.2" range="-30 30"
               solimplimit="0.7 0.95 0.1 0.5 2"/>
        <geom type="capsule" fromto="0 0 0 0 0.1 0.5" size="0.04" mass="0.5"/>
      </body>
    </body>
  </worldbody>
  <actuator><position joint="hinge" kp="3" kv="0.1"/></actuator>
  <keyframe>
    <key qpos="0 -0.004 0.6" qvel="0.8 -0.05 0.5" ctrl="0.2"/>
    <key qpos="0 -0.006 0.2" qvel="0.02 -0.02 -0.3" ctrl="0.1"/>
    <key qpos="0 0.05 -0.58" qvel="-0.6 0.1 -0.8" ctrl="-0.2"/>
  </keyframe>
</mujoco>
"""

# A ball that skids on the ground, in a plane. Keys: slides, sticks.
SKID = """
<mujoco>
  <option timestep="0.005" SOLVED cone="elliptic"/>
  <worldbody>
    <geom type="plane" size="5 5 1"/>
    <body pos="0 0 0.1">
      <joint type="slide" axis="1 0 0" damping="0.3"/>
      <joint type="slide" axis="0.2 0 1"/>
      <geom type="sphere" size="0.1" mass="1" friction="0.6" solref="0.03 0.9"
            solimp="0.7 0.95 0.01 0.4 2" priority="1"/>
    </body>
  </worldbody>
  <keyframe>
    <key qpos="0 -0.004" qvel="0.8 -0.05"/>
    <key qpos="0 -0.006" qvel="0.02 -0.02"/>
  </keyframe>
</mujoco>
"""

# Springs around and inside a sphere and a cylinder that turn, on the shorter side or on that of a
# site, over pulleys.
WRAPPING = """
<mujoco>
  <option timestep="0.005"/>
  <default>
    <geom contype="0" conaffinity="0"/>
    <tendon stiffness="30" damping="1" springlength="0.2"/>
  </default>
  <worldbody>
    <site name="start" pos="0.3 0.02 0.1"/>
    <body>
      <joint name="carrier" axis="0.2 1 0.1" damping="0.1"/>
      <geom type="box" size="0.1 0.1 0.1" mass="1"/>
      <geom name="ball" type="sphere" size="0.1" pos="0.02 0 0" mass="0"/>
      <geom name="drum" type="cylinder" size="0.08 0.3" pos="0 0.05 0" euler="80 10 0" mass="0"/>
      <site name="in ball" pos="0.05 0.01 0.02"/>
      <site name="in drum" pos="0.02 0.04 0.01"/>
      <site name="above" pos="0 0 0.25"/>
    </body>
    <body pos="0 0.1 -0.1">
      <joint axis="0 1 0"/>
      <joint axis="1 0 0.3"/>
      <joint type="slide" axis="0 0 1"/>
      <geom type="box" size="0.1 0.15 0.1" mass="1"/>
      <site name="end" pos="-0.1 0 0.35"/>
    </body>
  </worldbody>
  <tendon>
    TENDONS
  </tendon>
  <actuator><motor joint="carrier"/></actuator>
  <keyframe>
    <key qpos="0.2 -0.3 0.2 -0.1" qvel="0.5 -0.3 0.4 0.1" ctrl="0.1"/>
    <key qpos="-0.5 0.6 -0.4 0.1" qvel="-0.5 0.3 -0.2 0.3"/>
  </keyframe>
</mujoco>
"""

# A ball joint with a spring and a servo, both at ease: rotated by no angle.
BALL_AT_EASE = """
<mujoco>
  <option timestep="0.005"/>
  <worldbody>
    <body>
      <joint name="ball" type="ball" stiffness="3"/>
      <geom type="box" size="0.1 0.2 0.3" pos="0 0.1 0" mass="1"/>
    </body>
  </worldbody>
  <actuator><position joint="ball" gear="0.2 1 0.3" kp="3"/></actuator>
  <keyframe><key qpos="1 0 0 0"/></keyframe>
</mujoco>
"""


def _feet(cone: str, impratio: float, solver: str = "Newton") -> str:
    text = FEET.replace("CONE", f'cone="{cone}"').replace("IMPRATIO", f'impratio="{impratio}"')
    if cone == "elliptic":  # MJX has no contacts without friction there
        text = text.replace('condim="1" solimp', 'condim="3" solimp').replace(
            '1" friction="0.1 ', '3" friction="0.1 '
        )
    return text.replace("SOLVER", f'solver="{solver}"')


def _puck(cone: str, integrator: str) -> str:
    return PUCK.replace("CONE", cone).replace("INTEGRATOR", integrator)


_WRAPS = {
    "inside a sphere": '<geom geom="ball" sidesite="in ball"/>',
    "inside a cylinder": '<geom geom="drum" sidesite="in drum"/>',
    "around a sphere": '<geom geom="ball"/>',
    "around a cylinder": '<geom geom="drum"/>',
    "above a sphere": '<geom geom="ball" sidesite="above"/>',
    "above a cylinder": '<geom geom="drum" sidesite="above"/>',
    "over pulleys": """
      <geom geom="ball"/><site site="end"/><pulley divisor="2"/>
      <site site="start"/><geom geom="drum" sidesite="in drum"/><site site="end"/>
      <pulley divisor="3"/><site site="start"/>
    """,
}


def _wrapping(*names: str) -> str:
    tendons = [
        f'<spatial name="{name}"><site site="start"/>{_WRAPS[name]}<site site="end"/></spatial>'
        for name in names
    ]
    return WRAPPING.replace("TENDONS", "".join(tendons))


_NO_EULERDAMP = '<flag eulerdamp="disable"/>'

MODELS = {
    name: text.replace("SOLVED", _SOLVED)
    for name, text in {
        "floating": FLOATING,
        "ball": BALL.replace("FLAG", ""),
        "ball-explicit": BALL.replace("FLAG", _NO_EULERDAMP),
        "ball-implicitfast": BALL.replace("FLAG", "").replace(
            "<option ", '<option integrator="implicitfast" '
        ),
        "ball-friction-loss": BALL.replace("FLAG", "")
        .replace("<option ", '<option integrator="implicitfast" ')
        .replace('damping="0.3"', 'damping="0.3" frictionloss="0.4"'),
        "arm": ARM,
        "arm-euler": ARM.replace('integrator="implicitfast"', ""),
        "equalities": EQUALITIES,
        "polynomials": POLYNOMIALS,
        "ball-at-ease": BALL_AT_EASE,
        "friction-loss": FRICTION_LOSS,
        "puck-elliptic": _puck("elliptic", "Euler"),
        "puck-pyramidal": _puck("pyramidal", "implicitfast"),
        "skid": SKID,
        "wrapping": _wrapping(*_WRAPS),
        "wrapping-inside": _wrapping("inside a cylinder"),
        "rod": ROD.replace("POWER", "2"),
        "rod-odd-power": ROD.replace("POWER", "2.5"),
        "feet-pyramidal": _feet("pyramidal", 1),
        "feet-pyramidal-impratio": _feet("pyramidal", 4),
        "feet-elliptic": _feet("elliptic", 3),
        "feet-elliptic-cg": _feet("elliptic", 1, "CG"),
        "shapes": SHAPES,
        "shapes-pyramidal": SHAPES.replace('cone="elliptic"', 'cone="pyramidal"'),
    }.items()
}
